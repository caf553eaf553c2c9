/** A part of a list, as `offset`, `skip` or `page` and `limit` name it. */
export type Slice = { offset: number; limit: number }

/** A parameter that no part of a list can be found by. */
export type BadParameter = { field: string; detail: string }

/** Both absent: the whole list is asked for, or a page by the API's own cursor. */
export type Asked = { slice?: Slice; bad?: BadParameter }

const usualLimit = 100 // if there is an offset without a limit; FastAPI's tutorial has it
const largestLimit = 500
const largestNumber = 1_000_000_000

/** Reads the slice that a client asks for, and takes its parameters out of the query. */
function takeSlice(query: URLSearchParams): Asked {
  const [given] = ['offset', 'skip', 'page'].filter((name) => query.get(name))
  const start = given && query.get(given)!
  for (const name of ['offset', 'skip', 'page']) query.delete(name)
  const limit = query.get('limit') ? Number(query.get('limit')) : usualLimit
  const isKnownLimit = /^[1-9]\d{0,2}$/.test(query.get('limit') || '1') && limit <= largestLimit
  // What is wrong with a limit, or a cursor, the API itself says.
  if (!isKnownLimit || query.get('cursor') || (!given && !query.get('limit'))) return {}
  if (!given) return { slice: { offset: 0, limit } }
  const least = given === 'page' ? 1 : 0
  if (!/^(0|[1-9]\d*)$/.test(start!) || Number(start) < least || Number(start) > largestNumber)
    return {
      bad: { field: given, detail: `must be a whole number from ${least} to ${largestNumber}` },
    }
  const offset = given === 'page' ? (Number(start) - 1) * limit : Number(start)
  return { slice: { offset, limit } }
}

/**
 * Asks for so much of the list that the slice is in it. For a parameter that was bad it asks for what
 * the list refuses, so that it is refused like every other request: after the token, with a line in the log.
 */
export function askForSlice(query: URLSearchParams): Asked {
  const asked = takeSlice(query)
  const { slice, bad } = asked
  if (bad) query.set('limit', '0')
  if (!slice) return asked
  const end = slice.offset + slice.limit
  if (end <= largestLimit) query.set('limit', String(end))
  else query.delete('limit')
  return asked
}
