import { cors } from '@elysiajs/cors'
import { Elysia } from 'elysia'
import type { Logger } from 'pino'
import { createAuthenticate } from './auth/current-user.ts'
import type { VerifyToken } from './auth/tokens.ts'
import type { Config } from './config.ts'
import type { Database } from './db/pool.ts'
import { docs } from './docs/docs.ts'
import { drain } from './http/draining.ts'
import { answerLastResort, ApiError, errors } from './errors.ts'
import { createReport } from './http/failure-log.ts'
import { health } from './http/health.ts'
import { properHost } from './http/host.ts'
import { requestLog } from './http/logging.ts'
import { noMetrics, type Metrics } from './http/metrics.ts'
import { refusedOrigins } from './http/origins.ts'
import type { Proxies } from './http/proxies.ts'
import { addressLimit, type RateLimits } from './http/rate-limit.ts'
import { requestId } from './http/request-id.ts'
import { security } from './http/security-headers.ts'
import { createAnswers } from './http/answers.ts'
import { createTaskChanges } from './sync/changes.ts'
import { createTaskList } from './tasks/list/list.ts'
import { createLive, type Listen } from './sync/live.ts'
import { taskRoutes } from './tasks/routes.ts'
import { createTaskStore } from './tasks/store.ts'
import { createTickets } from './sync/tickets.ts'

/**
 * In seconds. Load balancers keep an idle connection for a minute; whoever closes it first may do so
 * just as a request is sent.
 */
const idleTimeout = 75

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
  environment: Config['environment']
  log: Logger
  /** Whether `/docs` is there. */
  withDocs?: boolean
  metrics?: Metrics
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
  environment,
  log,
  withDocs = true,
  metrics = noMetrics,
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
  metrics.watchStreams(live.count)
  stopping?.addEventListener('abort', () => void live.close())
  const tasks = {
    store: createTaskStore(database, { maxTasksPerUser, onChange: live.announce }),
    list: createTaskList(database),
    changes,
    live,
    tickets: createTickets(database),
    answers: createAnswers({ idleTimeout }),
    authenticate,
    limitUser: rateLimits.limitUser,
  }
  const report = createReport(log)

  /** For what fails outside of the app's hooks, of which no request is known. */
  function countFailure(error: unknown): Response {
    metrics.observeRequest('_OTHER', undefined, 500, 0)
    return answerLastResort(report)(error)
  }

  const app = new Elysia({
    // One router for every path: the runtime's own treats a trailing slash and HEAD differently.
    systemRouter: false,
    // A host may be short, such as `api` in a network of containers; by default the framework looks
    // for the path behind the eleventh character of the URL.
    handler: { standardHostname: false },
    serve: {
      // By default a second server on the same port starts silently and takes half the requests.
      reusePort: false,
      idleTimeout,
      // What is too large is answered by json-body.ts; the runtime's own 413 is empty, without CORS.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      // The runtime's own page for what even the error hook cannot catch shows the source.
      development: false,
      error: countFailure,
    },
  })
    .use(security(proxies))
    .use(requestId())
    .use(drain(draining))
    .use(errors(report, explainUnknownRoute))
    .use(requestLog(log, { environment, metrics }))
    .use(refusedOrigins(corsOrigins, log))
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
    .use(properHost())
    .use(addressLimit(rateLimits, proxies))
    .use(health(database.query, draining))
    .use(withDocs ? docs() : new Elysia())
    .group('/api', (api) => api.use(taskRoutes(tasks)))
    // The same routes under the user's id, as some front ends call them.
    .group('/api/:user_id', (api) => api.use(taskRoutes(tasks)))

  async function explainUnknownRoute({ headers }: Request, path: string): Promise<ApiError> {
    if (path.startsWith('/api/')) await authenticate(headers.get('authorization'))
    const routes = app.routes
      // Not the plugin's OPTIONS, which is there for any path.
      .filter((route) => route.method !== 'OPTIONS' && matches(route.path, path))
    if (routes.length === 0) return new ApiError('route_not_found')
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
