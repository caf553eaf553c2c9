import type { Dialect, Place } from './paths.ts'
import { tasksIn, type Asked, type BadParameter, type Slice } from './slices.ts'

/**
 * Tasks in the words of the dialects, in whatever JSON or events they stand. PostgreSQL writes them
 * without white space, and JSON writes a backslash before every quote in a text: so what is looked
 * for is found in no title. Parsing a list and writing it again takes four times as long.
 */
export function translateTasks(json: string): string {
  return withInstants(json)
    .replaceAll('"completed":true', '"completed":true,"is_completed":true')
    .replaceAll('"completed":false', '"completed":false,"is_completed":false')
    .replaceAll('"priority":"none"', '"priority":"medium"')
}

/** A `due_date` becomes the `due_at` behind it, if that is known. */
function withInstants(json: string): string {
  const [dueDate, dueAt] = ['"due_date":', '"due_at":']
  let told = ''
  let toldTo = 0
  for (let at = json.indexOf(`${dueDate}"`); at !== -1; at = json.indexOf(`${dueDate}"`, toldTo)) {
    const date = at + dueDate.length
    const instant = json.indexOf(dueAt, date) + dueAt.length
    const isKnown = json[instant] === '"'
    told += json.slice(toldTo, date)
    told += isKnown ? quotedAt(json, instant) : quotedAt(json, date)
    toldTo = date + quotedAt(json, date).length
  }
  return told + json.slice(toldTo)
}

function quotedAt(json: string, start: number): string {
  return json.slice(start, json.indexOf('"', start + 1) + 1)
}

/** The answer that the API gave to what `place` says, as the client at the other end expects it. */
export async function translateAnswer(
  answer: Response,
  method: string,
  place: Place,
  { slice, bad }: Asked,
): Promise<Response> {
  const { tasks } = place
  if (tasks === undefined) return answer
  const { status, headers } = answer
  translateLinks(headers, place)
  if (method === 'HEAD') {
    headers.delete('content-length') // of another body
    return new Response(null, { status, headers })
  }
  if (method === 'DELETE' && status === 204) {
    headers.set('content-type', 'application/json')
    return new Response(`{"id":${tasks.id},"message":"Task deleted"}`, { headers })
  }
  const type = headers.get('content-type')
  if (type === 'text/event-stream')
    return new Response(answer.body && translateEvents(answer.body), { headers })
  if (type !== 'application/json') return answer
  const json = await answer.text()
  if (status === 422 && bad) return new Response(renameLimit(json, bad), { status, headers })
  if (status === 200 && method === 'GET' && tasks.isList)
    return new Response(listOf(json, headers, place, slice), { headers })
  return new Response(translateTasks(json), { status, headers })
}

function translateLinks(headers: Headers, { inner, outer, tasks }: Place): void {
  const location = headers.get('location')
  if (location) headers.set('location', location.replace('/api/tasks', tasks!.collection))
  const link = headers.get('link')
  if (link) headers.set('link', link.replace(`<${inner}`, `<${outer}`))
}

function listOf(json: string, headers: Headers, place: Place, slice: Slice | undefined): string {
  const total = Number(headers.get('x-total-count'))
  const { dialect } = place
  if (slice === undefined && dialect === 'array') return translateTasks(json)
  const { offset = 0, limit } = slice ?? {}
  const tasks = tasksIn(json).slice(offset, limit && offset + limit)
  if (slice) linkNext(headers, place, slice, total)
  const list = translateTasks(slice ? `[${tasks.join(',')}]` : json)
  return wrap[dialect](list, { total, count: tasks.length, ...slice })
}

type Numbers = { total: number; count: number } & Partial<Slice>

const wrap: Record<Dialect, (list: string, numbers: Numbers) => string> = {
  array: (list) => list,
  tasks: (list, { total, count }) => `{"tasks":${list},"total":${total},"count":${count}}`,
  // A limit of 0 would be divided by.
  items: (list, { total, limit = Math.max(total, 1), offset = 0 }) =>
    `{"items":${list},"total":${total},"limit":${limit},"offset":${offset}}`,
}

function linkNext(headers: Headers, place: Place, { offset, limit }: Slice, total: number): void {
  headers.delete('link')
  if (offset + limit >= total) return
  const query = new URLSearchParams(place.query)
  for (const name of ['skip', 'page']) query.delete(name)
  query.set('limit', String(limit))
  query.set('offset', String(offset + limit))
  headers.set('link', `<${place.outer}?${query.toString()}>; rel="next"`)
}

type Refusal = { detail: string; errors: BadParameter[] }

/** The list refused a limit that stands for another parameter: see `askForSlice`. */
function renameLimit(json: string, bad: BadParameter): string {
  const refusal: Refusal = JSON.parse(json)
  const errors = refusal.errors.map((error) => (error.field === 'limit' ? bad : error))
  return JSON.stringify({
    ...refusal,
    detail: `${errors[0]!.field}: ${errors[0]!.detail}`,
    errors,
  })
}

/** Event by event, as they come. Whoever stops reading ends the stream itself. */
function translateEvents(events: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const reader = events.getReader()
  const [decoder, encoder] = [new TextDecoder(), new TextEncoder()]
  let begun = ''
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (;;) {
          const { done, value } = await reader.read()
          if (done) return controller.close()
          begun += decoder.decode(value, { stream: true })
          const end = begun.lastIndexOf('\n\n') + 2
          if (end === 1) continue
          const whole = begun.slice(0, end)
          begun = begun.slice(end)
          return controller.enqueue(encoder.encode(translateTasks(whole)))
        }
      },
      cancel: async (reason) => reader.cancel(reason),
    },
    // What is not read is held back at its source, which knows when to cut a reader off.
    { highWaterMark: 0 },
  )
}
