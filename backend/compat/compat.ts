import type { Authenticate } from '../auth/current-user.ts'
import { rememberSentPath } from '../http/logging.ts'
import type { TaskStore } from '../tasks/store.ts'
import { translateAnswer } from './answers.ts'
import { translateBody, type FindKept } from './bodies.ts'
import { renameParameters } from './parameters.ts'
import { destinationOf, type Destination } from './paths.ts'
import { askForSlice, type Asked } from './slices.ts'

/** The app's own handler, of which its type says nothing. */
type Handle = (request: Request) => unknown

export type CompatParts = { authenticate: Authenticate; tasks: Pick<TaskStore, 'findAll'> }

/**
 * The API under `/compat/array`, `/compat/tasks` and `/compat/items`, as existing front ends expect
 * it: see docs/front-end.md. It stands around the app's own handler. A request under the prefix goes
 * through that once, like any other, under the path that the API knows; its answer is translated.
 */
export function compat(parts: CompatParts) {
  return function speakDialect(handle: Handle, request: Request): Handle {
    const destination = destinationOf(request.url)
    return destination === undefined
      ? handle
      : async () => translate(parts, handle, request, destination)
  }
}

async function translate(
  parts: CompatParts,
  handle: Handle,
  request: Request,
  destination: Destination,
): Promise<Response> {
  const { method, headers } = request
  const { tasks, origin, inner } = destination
  let { query } = destination
  let asked: Asked = {}
  if (tasks?.isList && query !== '') {
    const parameters = new URLSearchParams(query)
    asked = askForSlice(parameters)
    renameParameters(parameters)
    query = parameters.toString()
  }
  rememberSentPath(request)
  // The same request object, not a copy: the runtime uses it to tell who is at the other end.
  const url = `${origin}${inner}${query === '' ? '' : `?${query}`}`
  Object.defineProperty(request, 'url', { value: url })
  if (tasks && (method === 'POST' || method === 'PUT' || method === 'PATCH'))
    translateBody(request, tasks, finder(parts, headers.get('authorization')))
  const answer = await handle(request)
  if (!(answer instanceof Response)) throw new TypeError('The app gave no Response')
  return translateAnswer(answer, request, destination, asked)
}

/** Looks once the request itself is known to be its user's, and only if that matters. */
function finder({ authenticate, tasks }: CompatParts, authorization: string | null): FindKept {
  return async function findKept(ids) {
    const { userId } = await authenticate(authorization)
    return tasks.findAll(userId, ids)
  }
}
