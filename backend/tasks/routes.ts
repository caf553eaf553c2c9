import { Elysia, NotFoundError, t, type Context } from 'elysia'
import { currentUser, type Authenticate } from '../auth/current-user.ts'
import { Conflict, Failure, Invalid } from '../errors.ts'
import { jsonBody } from '../http/body.ts'
import { readIdempotency } from './idempotency.ts'
import type { Limit } from '../http/rate-limit.ts'
import type { createTaskList } from './list/list.ts'
import { isKnown, readIfMatch } from './preconditions.ts'
import { readPosition, writeSyncToken, type TaskChanges } from '../sync/changes.ts'
import type { Live } from '../sync/live.ts'
import {
  ChangeHeaders,
  Changes,
  ChangesQuery,
  Completion,
  CreateHeaders,
  EventsHeaders,
  EventsQuery,
  ListQuery,
  NewTask,
  ReadHeaders,
  RemoveQuery,
  splitDueInstant,
  Task,
  TaskChanges as TaskChangesBody,
  TaskParams,
  Ticket,
  TrashedTask,
} from './schemas.ts'
import { ticketLifetime, type Tickets } from '../sync/tickets.ts'
import type { TaskStore, WriteAnswer, WriteOptions } from './store.ts'

const tags = ['Tasks']
const liveTags = ['Sync and live']

const changesAtOnce = 500

/** They take some methods and are no ids for the others, to which the router gives them as such. */
const fixedPaths = ['changes', 'events', 'trash']

const eventsDescription = `Server-Sent Events: \`task.created\`, \`task.updated\`, \`task.restored\` with the task, and
\`task.deleted\` with \`{"id": 1}\`. An event's \`id\` is its place in the order of changes; sent back in
\`Last-Event-ID\`, nothing is lost and nothing comes twice. Where that is too far back there is one
event \`resync\`: read the list anew. The stream ends when the token expires.`

/** What the routes are made of. */
export type TaskParts = {
  store: TaskStore
  list: ReturnType<typeof createTaskList>
  changes: TaskChanges
  live: Live
  tickets: Tickets
  authenticate: Authenticate
  limitUser: Limit
}

const anyRoute = {
  401: Failure('token_missing', 'token_invalid', 'token_expired'),
  422: Invalid('validation_failed'),
  429: Failure('rate_limited'),
  500: Failure('internal_error'),
  503: Failure('database_unavailable', 'auth_unavailable'),
}
const oneTask = { 403: Failure('not_owner'), 404: Failure('task_not_found') }
const writing = {
  409: Failure('idempotency_in_progress'),
  422: Invalid('validation_failed', 'idempotency_key_reused'),
}
const withBody = {
  413: Failure('body_too_large'),
  415: Failure('unsupported_media_type'),
  422: Invalid('malformed_json', 'validation_failed', 'idempotency_key_reused'),
}
const changing = { ...anyRoute, ...oneTask, ...writing, 412: Conflict(Task) }

type Set = Context['set']
type Headers = Record<string, string | undefined>
type UpdateContext = {
  userId: string
  params: { id: number }
  body: TaskChangesBody
  headers: Headers
  set: Set
}

/** The routes of one user's tasks. They are mounted twice: see `app.ts`. */
export function taskRoutes(parts: TaskParts) {
  return new Elysia({ prefix: '/tasks' }).use(eventRoutes(parts)).use(storedRoutes(parts))
}

/** The stream of events. Beside a token it takes a ticket. */
function eventRoutes({ live, tickets, authenticate, limitUser }: TaskParts) {
  return new Elysia().use(currentUser(authenticate, limitUser, tickets.redeem)).get(
    '/events',
    async function streamEvents({
      userId,
      expires,
      recheck,
      query,
      headers,
      set,
      request,
      server,
    }) {
      // An EventSource gives up for good on an error: what it cannot resume from is a resync.
      const seen = headers['last-event-id'] || query.since
      const after = seen === undefined ? undefined : readPosition(seen, userId)
      const isHead = request.method === 'HEAD' // would wait for the end of the stream
      const stream = isHead ? null : await live.open({ userId, expires, recheck }, after)
      // It is quiet for longer than the runtime lets a connection be.
      server?.timeout(request, 0)
      set.headers['cache-control'] = 'private, no-store'
      return new Response(stream, {
        headers: { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' },
      })
    },
    {
      headers: EventsHeaders,
      query: EventsQuery,
      response: { ...anyRoute },
      detail: {
        tags: liveTags,
        summary: 'Follow my tasks live',
        description: eventsDescription,
      },
    },
  )
}

function storedRoutes({ store, list, changes, tickets, authenticate, limitUser }: TaskParts) {
  /** PUT and PATCH do the same: a field that is left out keeps its value. */
  async function update({
    userId,
    params: { id },
    body,
    headers,
    set,
  }: UpdateContext): Promise<Task> {
    const options = optionsOf(headers, ['update', id, body])
    return answer(set, await store.update(userId, id, splitDueInstant(body), options))
  }

  return new Elysia()
    .use(currentUser(authenticate, limitUser))
    .onTransform(async function keepFixedPaths({ params, route }) {
      const { id } = (params ?? {}) as { id?: string }
      if (route.endsWith('/:id') && fixedPaths.includes(id ?? '')) throw new NotFoundError()
    })
    .use(jsonBody())
    .get(
      '',
      async function listTasks({ userId, query, headers, set, path, request }) {
        const page = await list(userId, query, headers['if-none-match'])
        set.headers['etag'] = `"${page.tag}"`
        if (page.state === 'unchanged') return notModified(set)
        set.headers['x-total-count'] = String(page.total)
        set.headers['sync-token'] = writeSyncToken(
          { seen: page.counter, complete: page.counter },
          userId,
        )
        if (page.next !== undefined)
          set.headers['link'] = `<${nextPage(path, request.url, page.next)}>; rel="next"`
        return jsonResponse<Task[]>(set, page.json)
      },
      {
        headers: ReadHeaders,
        query: ListQuery,
        // Of a repeated parameter Elysia gives the last; its lists would split a tag at its commas.
        async transform({ query, request: { url } }) {
          const given = parametersOf(url).getAll('tag')
          if (given.length > 0) Object.assign(query, { tag: given })
        },
        response: { 200: t.Array(Task), 304: t.Void(), ...anyRoute },
        detail: { tags, summary: 'List my tasks, oldest first' },
      },
    )
    .post(
      '',
      async function createTask({ userId, body, headers, set }) {
        const written = await store.create(
          userId,
          splitDueInstant(body),
          optionsOf(headers, ['create', body]),
        )
        set.headers['location'] = `/api/tasks/${written.id}`
        return answer(set, written)
      },
      {
        headers: CreateHeaders,
        body: NewTask,
        response: {
          201: Task,
          ...anyRoute,
          ...withBody,
          409: Failure('idempotency_in_progress', 'task_limit_reached'),
        },
        detail: { tags, summary: 'Create a task' },
      },
    )
    .get(
      '/trash',
      async function listTrash({ userId, set }) {
        return jsonResponse<TrashedTask[]>(set, await store.trash(userId))
      },
      {
        response: { 200: t.Array(TrashedTask), ...anyRoute },
        detail: {
          tags,
          summary: 'List my trash, the last deleted first',
          description: 'What is in the trash is deleted for good after 30 days.',
        },
      },
    )
    .get(
      '/changes',
      async function listChanges({ userId, query, set }) {
        const page = await changes.since(userId, query.since, query.limit ?? changesAtOnce)
        return jsonResponse<Changes>(
          set,
          `{"items":${page.items},"deleted":${page.deleted},"sync_token":"${page.token}","has_more":${page.hasMore}}`,
        )
      },
      {
        query: ChangesQuery,
        response: { 200: Changes, 410: Failure('sync_token_expired'), ...anyRoute },
        detail: {
          tags: liveTags,
          summary: 'What changed since a token',
          description:
            'In the order in which it was committed, so that nothing is ever skipped. A token is good for 30 days at least.',
        },
      },
    )
    .get(
      '/:id',
      async function findTask({ userId, params, headers, set }) {
        const { version, json } = await store.find(userId, params.id)
        const isUnchanged = isKnown(headers['if-none-match'], String(version))
        set.headers['etag'] = `"${version}"`
        if (isUnchanged) return notModified(set)
        return jsonResponse<Task>(set, json)
      },
      {
        headers: ReadHeaders,
        params: TaskParams,
        response: { 200: Task, 304: t.Void(), ...anyRoute, ...oneTask },
        detail: { tags, summary: 'Read a task' },
      },
    )
    .put(
      '/:id',
      async function updateTask(context) {
        return update(context)
      },
      {
        headers: ChangeHeaders,
        params: TaskParams,
        body: TaskChangesBody,
        response: { 200: Task, ...changing, ...withBody },
        detail: { tags, summary: 'Change fields of a task' },
      },
    )
    .patch(
      '/:id',
      async function patchTask(context) {
        return update(context)
      },
      {
        headers: ChangeHeaders,
        params: TaskParams,
        body: TaskChangesBody,
        response: { 200: Task, ...changing, ...withBody },
        detail: { tags, summary: 'Change fields of a task, as a JSON Merge Patch (RFC 7396)' },
      },
    )
    .patch(
      '/:id/complete',
      async function completeTask({ userId, params: { id }, body, headers, set }) {
        const options = optionsOf(headers, ['complete', id, body])
        return answer(
          set,
          body?.completed === undefined
            ? await store.toggle(userId, id, options)
            : await store.update(userId, id, { completed: body.completed }, options),
        )
      },
      {
        headers: ChangeHeaders,
        params: TaskParams,
        body: t.Optional(Completion),
        response: { 200: Task, ...changing, ...withBody },
        detail: { tags, summary: 'Complete a task, or take that back' },
      },
    )
    .delete(
      '/:id',
      async function removeTask({ userId, params: { id }, query: { permanent }, headers, set }) {
        const written =
          permanent === 'true'
            ? await store.destroy(userId, id, optionsOf(headers, ['destroy', id]))
            : await store.remove(userId, id, optionsOf(headers, ['remove', id]))
        markReplay(set, written)
        set.status = 204
      },
      {
        headers: ChangeHeaders,
        query: RemoveQuery,
        params: TaskParams,
        response: { 204: t.Void(), ...changing },
        detail: {
          tags,
          summary: 'Delete a task',
          description: 'It is in the trash for 30 days, unless `permanent` is `true`.',
        },
      },
    )
    .post(
      '/:id/restore',
      async function restoreTask({ userId, params: { id }, headers, set }) {
        return answer(set, await store.restore(userId, id, optionsOf(headers, ['restore', id])))
      },
      {
        headers: ChangeHeaders,
        params: TaskParams,
        response: {
          200: Task,
          ...changing,
          ...withBody,
          409: Failure('idempotency_in_progress', 'task_limit_reached'),
        },
        detail: { tags, summary: 'Take a task out of the trash' },
      },
    )
    .post(
      '/events/ticket',
      async function issueTicket({ userId, expires, recheck, set }) {
        const ticket = await tickets.issue({ userId, expires, recheck })
        set.status = 201
        return { ticket, expires_in: ticketLifetime }
      },
      {
        response: {
          201: Ticket,
          ...anyRoute,
          ...withBody,
          422: Invalid('malformed_json', 'validation_failed'),
        },
        detail: {
          tags: liveTags,
          summary: 'Get a ticket for the stream of events',
          description: 'For browsers, whose `EventSource` cannot send a token. Good once.',
        },
      },
    )
}

function optionsOf(headers: Headers, request: unknown[]): WriteOptions {
  const precondition = readIfMatch(headers['if-match'])
  const idempotency = readIdempotency(headers['idempotency-key'], [...request, precondition])
  return { ...(precondition && { precondition }), ...(idempotency && { idempotency }) }
}

function answer(set: Set, written: WriteAnswer): Task {
  markReplay(set, written)
  set.headers['etag'] = `"${written.version}"`
  return jsonResponse<Task>(set, written.json!, written.status)
}

function markReplay(set: Set, { replayed }: WriteAnswer): void {
  if (replayed) set.headers['idempotent-replayed'] = 'true'
}

function notModified(set: Set): void {
  set.status = 304
}

/**
 * JSON that PostgreSQL has written, sent on as it is. To clients it is what its type says.
 *
 * It takes the headers and the status that hooks have set along. What is left in `set` Elysia puts
 * into a copy of the Response, and that costs more than all hooks together.
 */
// oxlint-disable-next-line no-unnecessary-type-parameters -- a handler's type is what Eden clients get: each says what its JSON is
function jsonResponse<Body>(set: Set, json: string, status = 200): Body {
  // oxlint-disable-next-line no-unsafe-type-assertion -- its type allows numbers, which are written as the same text
  const headers = set.headers as Record<string, string>
  headers['content-type'] = 'application/json'
  const response: unknown = new Response(json, { status, headers })
  set.headers = {}
  // oxlint-disable-next-line no-unsafe-type-assertion -- as a Response it would become part of the clients' types (eden.test.ts)
  return response as Body
}

function nextPage(path: string, url: string, cursor: string): string {
  const parameters = parametersOf(url)
  parameters.set('cursor', cursor)
  return `${path}?${parameters.toString()}`
}

/** Not by `URL`: it throws where the Host header is no host. */
function parametersOf(url: string): URLSearchParams {
  const start = url.indexOf('?')
  return new URLSearchParams(start === -1 ? '' : url.slice(start + 1))
}
