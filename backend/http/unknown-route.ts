import { Elysia, NotFoundError } from 'elysia'
import { ApiError } from './failures.ts'

type Route = { method: string; path: string }

/**
 * Why no route takes a request: there is none at its path, or none there for its method.
 *
 * @param explainPath what to say of a path at which there is nothing, if more is known of it
 */
export function explainUnknownRoute(
  routes: readonly Route[],
  path: string,
  explainPath: (path: string) => string | undefined,
): ApiError {
  const candidates = routes
    // Not the CORS plugin's OPTIONS, which is there for any path.
    .filter((route) => route.method !== 'OPTIONS' && matches(route.path, path))
  if (candidates.length === 0) {
    const detail = explainPath(path)
    return new ApiError('route_not_found', { ...(detail !== undefined && { detail }) })
  }
  const fewest = Math.min(...candidates.map((route) => parametersIn(route.path)))
  const methods = candidates
    // `/tasks/trash` is itself, and not the task with this id.
    .filter((route) => parametersIn(route.path) === fewest)
    .map(({ method }) => method)
  const allow = ['OPTIONS', ...(methods.includes('GET') ? ['HEAD'] : []), ...methods]
  return new ApiError('method_not_allowed', {
    headers: { allow: [...new Set(allow)].toSorted().join(', ') },
  })
}

/**
 * Keeps words that are paths of their own from being taken for an id: for a method that such a path
 * does not take, the router would go on to `/:id`.
 */
export function neverIds(...words: string[]) {
  return new Elysia({ name: 'never-ids', seed: words }).onTransform(
    { as: 'scoped' },
    async function refuseWord({ params, route }) {
      const { id } = (params ?? {}) as { id?: string }
      if (route.endsWith('/:id') && words.includes(id ?? '')) throw new NotFoundError()
    },
  )
}

function parametersIn(pattern: string): number {
  return pattern.split(':').length - 1
}

function matches(pattern: string, path: string): boolean {
  const [wanted, given] = [pattern, path].map((text) => text.replace(/(?<=.)\/$/, '').split('/'))
  return (
    !pattern.includes('*') &&
    wanted!.length === given!.length &&
    wanted!.every((segment, index) =>
      segment.startsWith(':') ? given![index] !== '' : segment === given![index],
    )
  )
}
