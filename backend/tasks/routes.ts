import { Elysia, t, type Context } from 'elysia'
import { currentUser, type Authenticate } from '../auth/current-user.ts'
import { Conflict, Failure, Invalid } from '../errors.ts'
import { jsonBody } from '../json-body.ts'
import { readIdempotency } from './idempotency.ts'
import type { createTaskList } from './list.ts'
import { isKnown, readIfMatch } from './preconditions.ts'
import {
  ChangeHeaders,
  Completion,
  CreateHeaders,
  ListQuery,
  NewTask,
  ReadHeaders,
  splitDueInstant,
  Task,
  TaskChanges,
  TaskParams,
} from './schemas.ts'
import type { TaskStore, WriteAnswer, WriteOptions } from './store.ts'

const tags = ['Tasks']

const anyRoute = {
  401: Failure('token_missing', 'token_invalid', 'token_expired'),
  422: Invalid('validation_failed'),
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

/** The routes of one user's tasks. They are mounted twice: see `app.ts`. */
export function taskRoutes({
  store,
  list,
  authenticate,
}: {
  store: TaskStore
  list: ReturnType<typeof createTaskList>
  authenticate: Authenticate
}) {
  return new Elysia({ prefix: '/tasks' })
    .use(currentUser(authenticate))
    .use(jsonBody())
    .get(
      '',
      async function listTasks({ userId, query, headers, set, path, request }) {
        const page = await list(userId, query, headers['if-none-match'])
        set.headers['etag'] = `"${page.tag}"`
        if (page.state === 'unchanged') return notModified(set)
        set.headers['x-total-count'] = String(page.total)
        set.headers['sync-token'] = String(page.counter)
        if (page.next !== undefined)
          set.headers['link'] = `<${nextPage(path, request.url, page.next)}>; rel="next"`
        return jsonResponse<Task[]>(page.json)
      },
      {
        headers: ReadHeaders,
        query: ListQuery,
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
      '/:id',
      async function findTask({ userId, params, headers, set }) {
        const { version, json } = await store.find(userId, params.id)
        set.headers['etag'] = `"${version}"`
        if (isKnown(headers['if-none-match'], String(version))) return notModified(set)
        return jsonResponse<Task>(json)
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
      async function updateTask({ userId, params: { id }, body, headers, set }) {
        const options = optionsOf(headers, ['update', id, body])
        return answer(set, await store.update(userId, id, splitDueInstant(body), options))
      },
      {
        headers: ChangeHeaders,
        params: TaskParams,
        body: TaskChanges,
        response: { 200: Task, ...changing, ...withBody },
        detail: { tags, summary: 'Change fields of a task' },
      },
    )
    .patch(
      '/:id',
      async function patchTask({ userId, params: { id }, body, headers, set }) {
        const options = optionsOf(headers, ['update', id, body])
        return answer(set, await store.update(userId, id, splitDueInstant(body), options))
      },
      {
        headers: ChangeHeaders,
        params: TaskParams,
        body: TaskChanges,
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
      async function removeTask({ userId, params: { id }, headers, set }) {
        const written = await store.remove(userId, id, optionsOf(headers, ['remove', id]))
        markReplay(set, written)
        set.status = 204
      },
      {
        headers: ChangeHeaders,
        params: TaskParams,
        response: { 204: t.Void(), ...changing },
        detail: { tags, summary: 'Delete a task' },
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
  set.status = written.status
  set.headers['etag'] = `"${written.version}"`
  return jsonResponse<Task>(written.json!)
}

function markReplay(set: Set, { replayed }: WriteAnswer): void {
  if (replayed) set.headers['idempotent-replayed'] = 'true'
}

function notModified(set: Set): void {
  set.status = 304
}

/** JSON that PostgreSQL has written, sent on as it is. To clients it is what its type says. */
// oxlint-disable-next-line no-unnecessary-type-parameters -- every route has its own type of body
function jsonResponse<Body>(json: string): Body {
  const response: unknown = new Response(json, { headers: { 'content-type': 'application/json' } })
  // oxlint-disable-next-line no-unsafe-type-assertion -- what Eden clients get is not the Response
  return response as Body
}

function nextPage(path: string, url: string, cursor: string): string {
  const parameters = new URL(url).searchParams
  parameters.set('cursor', cursor)
  return `${path}?${parameters.toString()}`
}
