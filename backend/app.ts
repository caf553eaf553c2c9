import { cors } from '@elysiajs/cors'
import { Elysia } from 'elysia'
import type { Logger } from 'pino'
import { createAuthenticate } from './auth/current-user.ts'
import type { VerifyToken } from './auth/tokens.ts'
import { compat } from './compat/compat.ts'
import { explainPath } from './compat/paths.ts'
import type { Database } from './db/pool.ts'
import { docs } from './docs/docs.ts'
import { drain } from './http/draining.ts'
import { answerLastResort, ApiError, errors, type Report } from './errors.ts'
import { health } from './http/health.ts'
import { requestLog } from './http/logging.ts'
import type { Proxies } from './http/proxies.ts'
import { addressLimit, type RateLimits } from './http/rate-limit.ts'
import { requestId } from './http/request-id.ts'
import { security } from './http/security-headers.ts'
import { createTaskChanges } from './sync/changes.ts'
import { createTaskList } from './tasks/list/list.ts'
import { createLive, type Listen } from './sync/live.ts'
import { taskRoutes } from './tasks/routes.ts'
import { createTaskStore } from './tasks/store.ts'
import { createTickets } from './sync/tickets.ts'

export type AppParts = {
  database: Database
  verifyToken: VerifyToken
  corsOrigins: string[]
  maxTasksPerUser: number
  maxStreamsPerUser: number
  proxies: Proxies
  rateLimits: RateLimits
  /** How this process hears of changes that others make: see `createLive`. */
  listen?: Listen | undefined
  lookEvery?: number | undefined
  /** The server will stop soon: it is unready, and closes the connections that it is asked on. */
  draining?: AbortSignal
  /** Ends the event streams: a server that is told to stop waits for what is open. */
  stopping?: AbortSignal
  log: Logger
}

/** The whole HTTP surface. A request goes through it from the top to the bottom. */
export function createApp({
  listen,
  lookEvery,
  draining,
  stopping,
  database,
  verifyToken,
  corsOrigins,
  maxTasksPerUser,
  maxStreamsPerUser,
  proxies,
  rateLimits,
  log,
}: AppParts) {
  const authenticate = createAuthenticate(verifyToken)
  const changes = createTaskChanges(database)
  const live = createLive({
    changes,
    listen,
    lookEvery,
    maxStreamsPerUser,
    report: (err) => log.warn({ err }, 'the event streams wait for the database'),
  })
  stopping?.addEventListener('abort', () => live.close())
  const tasks = {
    store: createTaskStore(database, { maxTasksPerUser, onChange: live.announce }),
    list: createTaskList(database),
    changes,
    live,
    tickets: createTickets(database),
    authenticate,
    limitUser: rateLimits.limitUser,
  }
  const report: Report = ({ requestId: request_id, route, error }) =>
    log.error({ request_id, route, err: error }, 'request failed')

  const app = new Elysia({
    // One router for every path: the runtime's own treats a trailing slash and HEAD differently.
    systemRouter: false,
    // A host may be short, such as `api` in a network of containers; by default the framework looks
    // for the path behind the eleventh character of the URL.
    handler: { standardHostname: false },
    serve: {
      // By default a second server on the same port starts silently and takes half the requests.
      reusePort: false,
      // In seconds. Load balancers keep an idle connection for a minute; whoever closes it first may
      // do so just as a request is sent.
      idleTimeout: 75,
      // What is too large is answered by json-body.ts; the runtime's own 413 is empty, without CORS.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      // The runtime's own page for what even the error hook cannot catch shows the source.
      development: false,
      error: answerLastResort(report),
    },
  })
    .use(security(proxies))
    .use(requestId())
    .use(drain(draining))
    .use(errors(report, explainUnknownRoute))
    .use(requestLog(log))
    .use(
      cors({
        origin: corsOrigins,
        credentials: true,
        methods: ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'],
        allowedHeaders: [...allowedHeaders],
        exposeHeaders: [...exposedHeaders],
        maxAge: 600,
      }),
    )
    .use(addressLimit(rateLimits, proxies))
    .use(health(database.query, draining))
    .use(docs())
    .group('/api', (api) => api.use(taskRoutes(tasks)))
    // The same routes under the user's id, as some front ends call them.
    .group('/api/:user_id', (api) => api.use(taskRoutes(tasks)))
    // And all of it under another prefix, for front ends of another shape.
    .wrap(compat({ authenticate, store: tasks.store }))

  async function explainUnknownRoute({ headers }: Request, path: string): Promise<ApiError> {
    if (path.startsWith('/api/')) await authenticate(headers.get('authorization'))
    const routes = app.routes
      // Not the plugin's OPTIONS, which is there for any path.
      .filter((route) => route.method !== 'OPTIONS' && matches(route.path, path))
    if (routes.length === 0) {
      const detail = explainPath(path)
      return new ApiError('route_not_found', { ...(detail !== undefined && { detail }) })
    }
    const fewest = Math.min(...routes.map((route) => parametersIn(route.path)))
    const methods = routes
      // `/tasks/trash` is itself, and not the task with this id.
      .filter((route) => parametersIn(route.path) === fewest)
      .map(({ method }) => method)
    const allow = ['OPTIONS', ...(methods.includes('GET') ? ['HEAD'] : []), ...methods]
    return new ApiError('method_not_allowed', {
      headers: { allow: [...new Set(allow)].toSorted().join(', ') },
    })
  }

  return app
}

/** The type that Eden clients use: `treaty<App>('http://localhost:8000')`. */
export type App = ReturnType<typeof createApp>

const allowedHeaders = [
  'Authorization',
  'Content-Type',
  'If-Match',
  'If-None-Match',
  'Idempotency-Key',
  'Last-Event-ID',
  'X-Request-Id',
]

const exposedHeaders = [
  'ETag',
  'Link',
  'Location',
  'X-Total-Count',
  'Sync-Token',
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'Idempotent-Replayed',
  'WWW-Authenticate',
  'X-Request-Id',
]

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
