import { Elysia, t } from 'elysia'
import { currentUser, type Authenticate } from '../auth/current-user.ts'
import { Failure, Invalid } from '../errors.ts'
import { jsonBody } from '../json-body.ts'
import { Completion, NewTask, Task, TaskChanges, TaskParams, TaskQuery } from './schemas.ts'
import type { TaskStore } from './store.ts'

const tags = ['Tasks']
const anyRoute = {
  401: Failure('token_missing', 'token_invalid', 'token_expired'),
  422: Invalid('validation_failed'),
  500: Failure('internal_error'),
  503: Failure('database_unavailable', 'auth_unavailable'),
}
const oneTask = { 403: Failure('not_owner'), 404: Failure('task_not_found') }
const withBody = {
  413: Failure('body_too_large'),
  415: Failure('unsupported_media_type'),
  422: Invalid('malformed_json', 'validation_failed'),
}

/** The routes of one user's tasks. They are mounted twice: see `app.ts`. */
export function taskRoutes(store: TaskStore, authenticate: Authenticate) {
  return new Elysia({ prefix: '/tasks' })
    .use(currentUser(authenticate))
    .use(jsonBody())
    .get(
      '',
      async function listTasks({ userId, query }) {
        return store.list(userId, query.status ?? 'all')
      },
      {
        query: TaskQuery,
        response: { 200: t.Array(Task), ...anyRoute },
        detail: { tags, summary: 'List my tasks, oldest first' },
      },
    )
    .post(
      '',
      async function createTask({ userId, body, set }) {
        const task = await store.create(userId, body)
        set.status = 201
        set.headers['location'] = `/api/tasks/${task.id}`
        return task
      },
      {
        body: NewTask,
        response: { 201: Task, ...anyRoute, ...withBody },
        detail: { tags, summary: 'Create a task' },
      },
    )
    .get(
      '/:id',
      async function findTask({ userId, params }) {
        return store.find(userId, params.id)
      },
      {
        params: TaskParams,
        response: { 200: Task, ...anyRoute, ...oneTask },
        detail: { tags, summary: 'Read a task' },
      },
    )
    .put(
      '/:id',
      async function updateTask({ userId, params, body }) {
        return store.update(userId, params.id, body)
      },
      {
        params: TaskParams,
        body: TaskChanges,
        response: { 200: Task, ...anyRoute, ...oneTask, ...withBody },
        detail: { tags, summary: 'Change fields of a task' },
      },
    )
    .patch(
      '/:id/complete',
      async function completeTask({ userId, params, body }) {
        return body?.completed === undefined
          ? store.toggle(userId, params.id)
          : store.update(userId, params.id, { completed: body.completed })
      },
      {
        params: TaskParams,
        body: t.Optional(Completion),
        response: { 200: Task, ...anyRoute, ...oneTask, ...withBody },
        detail: { tags, summary: 'Complete a task, or take that back' },
      },
    )
    .delete(
      '/:id',
      async function removeTask({ userId, params, set }) {
        await store.remove(userId, params.id)
        set.status = 204
      },
      {
        params: TaskParams,
        response: { 204: t.Void(), ...anyRoute, ...oneTask },
        detail: { tags, summary: 'Delete a task' },
      },
    )
}
