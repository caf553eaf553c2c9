/** The shapes in which existing front ends expect a list. */
const dialects = ['array', 'tasks', 'items'] as const
export type Dialect = (typeof dialects)[number]

/** Where a request under `/compat` goes. */
export type Destination = {
  dialect: Dialect
  /** What stands before the path in the request's URL. */
  origin: string
  /** The path as the client wrote it, prefix included. */
  outer: string
  /** The path under which the API knows it. */
  inner: string
  query: string
  /** Absent if the path is not about tasks: its answer is then passed on as it is. */
  tasks?: {
    /** The path of the list that the request is about, as the client wrote it, prefix included. */
    collection: string
    /** The id of the one task that is read, changed or deleted; not of what is done to it. */
    id: number | undefined
    isList: boolean
    /** Whether it makes many changes at once. */
    isBulk: boolean
  }
}

const underPrefix = new RegExp(`^/compat/(${dialects.join('|')})(/[^?]*)(?:\\?(.*))?$`, 's')

/**
 * `/api`, `/v1` and `/users` may each stand in front or not, and so may the user's id. `tasks` and
 * `todos` are names of the list before they are anybody's id, as they are in the API's own paths.
 */
const aboutTasks =
  /^((?:\/api)?(?:\/v1)?(?:(?:\/users)?\/(?!(?:tasks|todos)(?:\/|$))([^/]+))?\/(?:tasks|todos))(\/.*)?$/s

/** @returns undefined if the request is not one under `/compat` */
export function destinationOf(url: string): Destination | undefined {
  const start = pathStart(url)
  if (!url.startsWith('/compat/', start)) return undefined
  const [, named, path, query = ''] = underPrefix.exec(url.slice(start)) ?? []
  const dialect = dialects.find((name) => name === named)
  if (dialect === undefined || path === undefined) return undefined
  const origin = url.slice(0, start)
  const destination = { dialect, origin, outer: `/compat/${dialect}${path}`, query }
  const [, collection, user, rest = ''] = aboutTasks.exec(path) ?? []
  if (collection === undefined) return { ...destination, inner: path }
  const isBulk = rest === '/bulk' || rest === '/bulk/'
  return {
    ...destination,
    inner: `/api${user === undefined ? '' : `/${user}`}/tasks${rest.replace(/^(\/[^/]+)\/toggle(?=\/?$)/, '$1/complete')}`,
    tasks: {
      collection: `/compat/${dialect}${collection}`,
      id: idIn(rest),
      isList: rest === '' || rest === '/',
      isBulk,
    },
  }
}

/** Digits may be written as `%35`. The route refuses what is not an id. */
function idIn(rest: string): number | undefined {
  const [, written = ''] = /^\/((?:\d|%3\d)+)\/?$/.exec(rest) ?? []
  return written === '' ? undefined : Number(decodeURIComponent(written))
}

/** What to say of a path that is unknown, if it is one that a dialect knows. */
export function explainPath(path: string): string | undefined {
  const destination = destinationOf(`/compat/array${path}`)
  return destination?.tasks && destination.inner !== path
    ? 'There is nothing at this path. For a front end that calls it, put /compat/array, /compat/tasks or /compat/items in front of the path: docs/front-end.md says which'
    : undefined
}

/** A URL begins with its path if the Host header is no host. */
function pathStart(url: string): number {
  return url.startsWith('/') ? 0 : url.indexOf('/', url.indexOf('://') + 3)
}
