/// <reference types="bun-types" />
// oxlint-disable-next-line triple-slash-reference -- those who import App have no tsconfig.json that names it
/// <reference path="./docs/assets.d.ts" />
import { Elysia } from 'elysia'
import { currentUser } from './auth/current-user.ts'
import { compat } from './compat/compat.ts'
import { explainPath } from './compat/paths.ts'
import { openApi } from './docs/openapi.ts'
import {
  hidden,
  leadToDocs,
  sendFavicon,
  sendPageStyle,
  sendStartScript,
  sendSwaggerScript,
  sendSwaggerStyle,
  showDocs,
} from './docs/page.ts'
import { answerLastResort, errors } from './errors.ts'
import { jsonBody } from './http/body.ts'
import { crossOrigin } from './http/cors.ts'
import { drain } from './http/draining.ts'
import { frameworkOptions } from './http/framework.ts'
import { aliveContract, answerAlive, createReadiness, readyContract } from './http/health.ts'
import { properHost } from './http/host.ts'
import { requestLog } from './http/logging.ts'
import { noMetrics } from './http/metrics.ts'
import { refusedOrigins } from './http/origins.ts'
import { ownOrigins } from './http/own-origin.ts'
import { addressLimit } from './http/rate-limit.ts'
import { requestId } from './http/request-id.ts'
import { security } from './http/security-headers.ts'
import { explainUnknownRoute, neverIds } from './http/unknown-route.ts'
import * as keys from './keys/contracts.ts'
import { createKey, listKeys, revokeKey } from './keys/routes.ts'
import * as mcp from './mcp/contracts.ts'
import { answerMessage } from './mcp/endpoint.ts'
import { describeResource } from './mcp/resource.ts'
import { createParts, type AppParts } from './parts.ts'
import * as sync from './sync/contracts.ts'
import { issueTicket, listChanges, streamEvents } from './sync/routes.ts'
import { mostBulkBytes } from './tasks/bulk.ts'
import * as tasks from './tasks/contracts.ts'
import {
  bulkTasks,
  completeTask,
  createTask,
  findTask,
  listTasks,
  listTrash,
  removeTask,
  restoreTask,
  skipTask,
  updateTask,
} from './tasks/routes.ts'

/** The whole HTTP surface. A request goes through it from the top to the bottom. */
export function createApp(given: AppParts) {
  const { database, corsOrigins, proxies, rateLimits, draining, environment, log } = given
  const { withDocs = true, metrics = noMetrics, publicUrl } = given
  const parts = createParts(given)
  const { authenticate, tellFailure, tickets } = parts
  const { limitUser } = rateLimits

  // An EventSource cannot send a token, so this route takes a ticket, too.
  const events = new Elysia({ prefix: '/tasks' })
    .decorate(parts.ofUser)
    .use(currentUser(authenticate, limitUser, { tickets }))
    .get('/events', streamEvents, sync.streamEvents)

  // A ticket opens the stream alone, which a key that only reads may follow.
  const ticket = new Elysia({ prefix: '/tasks' })
    .decorate(parts.ofUser)
    .use(currentUser(authenticate, limitUser, { needs: 'tasks:read' }))
    .use(jsonBody())
    .post('/events/ticket', issueTicket, sync.issueTicket)

  const bulk = new Elysia({ prefix: '/tasks' })
    .decorate(parts.ofUser)
    .use(currentUser(authenticate, limitUser))
    .use(jsonBody(mostBulkBytes))
    .post('/bulk', bulkTasks, tasks.bulkTasks)

  const ofUser = new Elysia({ prefix: '/tasks' })
    .decorate(parts.ofUser)
    .use(currentUser(authenticate, limitUser))
    .use(neverIds('bulk', 'changes', 'events', 'trash'))
    .use(jsonBody())
    .get('', listTasks, tasks.listTasks)
    .post('', createTask, tasks.createTask)
    .get('/trash', listTrash, tasks.listTrash)
    .get('/changes', listChanges, sync.listChanges)
    .get('/:id', findTask, tasks.findTask)
    .put('/:id', updateTask, tasks.updateTask)
    .patch('/:id', updateTask, tasks.patchTask)
    .delete('/:id', removeTask, tasks.removeTask)
    .patch('/:id/complete', completeTask, tasks.completeTask)
    .post('/:id/restore', restoreTask, tasks.restoreTask)
    .post('/:id/skip', skipTask, tasks.skipTask)

  const keysOfUser = new Elysia({ prefix: '/keys' })
    .decorate({ keys: parts.keys })
    .use(currentUser(authenticate, limitUser, { needs: 'the user' }))
    .use(jsonBody())
    .get('', listKeys, keys.listKeys)
    .post('', createKey, keys.createKey)
    .delete('/:id', revokeKey, keys.revokeKey)

  const agents = new Elysia()
    .decorate({ mcp: parts.mcp, answers: parts.ofUser.answers })
    .use(ownOrigins([...corsOrigins, ...(publicUrl === undefined ? [] : [publicUrl])], proxies))
    .use(currentUser(parts.authenticateAgent, limitUser, { needs: 'see route' }))
    .post('/mcp', answerMessage, mcp.answerMessage)

  const docs = new Elysia()
    .use(openApi()) // GET /docs/json
    // In place of the plugin's own page, whose script comes from a CDN whatever its options say.
    .get('/docs', showDocs, hidden)
    .get('/docs/start.js', sendStartScript, hidden)
    .get('/docs/page.css', sendPageStyle, hidden)
    .get('/docs/swagger-ui.css', sendSwaggerStyle, hidden)
    .get('/docs/swagger-ui-bundle.js', sendSwaggerScript, hidden)
    .get('/docs/favicon.png', sendFavicon, hidden)
    .get('/', leadToDocs, hidden)

  const app = new Elysia(frameworkOptions(answerUncaught))
    .use(security(proxies))
    .use(requestId())
    .use(drain(draining))
    .use(errors(tellFailure, whyUnknown))
    .use(requestLog(log, { environment, metrics }))
    .use(refusedOrigins(corsOrigins, log))
    .use(crossOrigin(corsOrigins))
    .use(properHost())
    .use(addressLimit(rateLimits, proxies))
    .get('/health', answerAlive, aliveContract)
    .get('/ready', createReadiness(database.query, draining), readyContract)
    .use(withDocs ? docs : new Elysia())
    .decorate({ resource: parts.resource })
    .get('/.well-known/oauth-protected-resource/mcp', describeResource, mcp.describeResource)
    .use(agents)
    .group('/api', (api) => api.use(events).use(ticket).use(bulk).use(ofUser).use(keysOfUser))
    // The same routes under the user's id, as some front ends call them.
    .group('/api/:user_id', (api) => api.use(events).use(ticket).use(bulk).use(ofUser))
    // And all of it under another prefix, for front ends of another shape.
    .wrap(compat({ authenticate, tasks: parts.ofUser.tasks }))

  /** A failure outside the app's hooks cannot be traced to its request. */
  function answerUncaught(error: unknown): Response {
    metrics.observeRequest('_OTHER', undefined, 500, 0)
    return answerLastResort(tellFailure)(error)
  }

  async function whyUnknown({ headers }: Request, path: string): Promise<Error> {
    if (path.startsWith('/api/')) await authenticate(headers.get('authorization'))
    return explainUnknownRoute(app.routes, path, whatIsKnown)
  }

  /** If there is no documentation, a 404 does not point to it. */
  function whatIsKnown(path: string): string | undefined {
    return explainPath(path) ?? (withDocs ? undefined : 'There is nothing at this path')
  }

  return app
}

/** The type that Eden clients use: `treaty<App>('http://localhost:8000')`. */
export type App = ReturnType<typeof createApp>
