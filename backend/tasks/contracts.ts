import { t } from 'elysia'
import { takes, tooLarge } from '../http/body.ts'
import { Conflict, Failure, Invalid } from '../http/failures.ts'
import { BulkRefused, BulkRequest, BulkResults, mostBulkBytes } from './bulk.ts'
import { parametersOf } from '../http/urls.ts'
import { tidyQuery } from './list/query.ts'
import {
  ChangeHeaders,
  Completion,
  CreateHeaders,
  ListQuery,
  NewTask,
  ReadHeaders,
  RemoveQuery,
  Task,
  TaskChanges,
  TaskParams,
  TrashedTask,
} from './schemas.ts'

/**
 * What each route of tasks takes, answers and says of itself in the documentation. What it does is in
 * routes.ts under the same name.
 */

const tags = ['Tasks']

/** How any request with a token can fail. */
export const anyRoute = {
  401: Failure('token_missing', 'token_invalid', 'token_expired'),
  403: Failure('insufficient_scope'),
  422: Invalid('validation_failed'),
  429: Failure('rate_limited'),
  500: Failure('internal_error'),
  503: Failure('database_unavailable', 'auth_unavailable'),
}

/** How a request with a body can fail, too. */
export const withBody = {
  413: Failure('body_too_large'),
  415: Failure('unsupported_media_type'),
  422: Invalid('malformed_json', 'validation_failed', 'idempotency_key_reused'),
}

const oneTask = { 403: Failure('not_owner', 'insufficient_scope'), 404: Failure('task_not_found') }
const changing = {
  ...anyRoute,
  ...oneTask,
  409: Failure('idempotency_in_progress'),
  412: Conflict(Task),
  422: Invalid('validation_failed', 'idempotency_key_reused'),
}
const growing = { 409: Failure('idempotency_in_progress', 'task_limit_reached') }

export const listTasks = {
  headers: ReadHeaders,
  query: ListQuery,
  async transform({ query, request }: { query: Record<string, unknown>; request: Request }) {
    tidyQuery(query, parametersOf(request.url))
  },
  response: { 200: t.Array(Task), 304: t.Void(), ...anyRoute },
  detail: {
    tags,
    operationId: 'listTasks',
    summary: 'List my tasks, oldest first',
    'x-answers': {
      200: {
        headers: {
          ETag: { description: 'The version of the task, or of the list', example: '"7"' },
          'X-Total-Count': { description: 'How many tasks match, on all pages', example: 120 },
          'Sync-Token': {
            description: 'The state that this list shows, for changes and events',
            example: '42.42.k2pA9sQ0dLm3',
          },
          Link: {
            description: 'The next page (RFC 8288); not on the last',
            example: '</api/tasks?limit=50&cursor=…>; rel="next"',
            required: false,
          },
        },
      },
    },
  },
}

export const createTask = {
  headers: CreateHeaders,
  ...takes(NewTask),
  response: { 201: Task, ...anyRoute, ...withBody, ...growing },
  detail: { tags, operationId: 'createTask', summary: 'Create a task' },
}

export const bulkTasks = {
  headers: CreateHeaders,
  ...takes(BulkRequest),
  response: { 200: BulkResults, ...anyRoute, ...withBody, 409: BulkRefused },
  detail: {
    tags,
    operationId: 'bulkTasks',
    summary: 'Do many things at once',
    description: `Up to 100 operations on different tasks, as one change: if one is refused, nothing is done (409
\`bulk_refused\`) and \`results\` says why. With \`"atomic": false\` the others are done. The body has 512 KiB
at most. Counts as 1 + n/10 requests.`,
    'x-answers': { 413: { detail: tooLarge(mostBulkBytes) } },
  },
}

export const listTrash = {
  response: { 200: t.Array(TrashedTask), ...anyRoute },
  detail: {
    tags,
    operationId: 'listTrash',
    summary: 'List my trash, the last deleted first',
    description: 'What is in the trash is deleted for good after 30 days.',
  },
}

export const findTask = {
  headers: ReadHeaders,
  params: TaskParams,
  response: { 200: Task, 304: t.Void(), ...anyRoute, ...oneTask },
  detail: { tags, operationId: 'findTask', summary: 'Read a task' },
}

export const updateTask = {
  headers: ChangeHeaders,
  params: TaskParams,
  ...takes(TaskChanges),
  response: { 200: Task, ...changing, ...withBody, ...growing },
  detail: { tags, operationId: 'updateTask', summary: 'Change fields of a task' },
}

export const patchTask = {
  ...updateTask,
  detail: {
    tags,
    operationId: 'patchTask',
    summary: 'Change fields of a task, as a JSON Merge Patch (RFC 7396)',
  },
}

export const completeTask = {
  headers: ChangeHeaders,
  params: TaskParams,
  ...takes(t.Optional(Completion)),
  response: { 200: Task, ...changing, ...withBody, ...growing },
  detail: {
    tags,
    operationId: 'completeTask',
    summary: 'Complete a task, or reopen it',
    description: `A task with a \`recurrence\` is followed by the next one, \`next_task_id\`, in the same change. Taking
it back removes that one, unless somebody has touched it.`,
    'x-optional-body': true,
  },
}

export const removeTask = {
  headers: ChangeHeaders,
  query: RemoveQuery,
  params: TaskParams,
  response: { 204: t.Void(), ...changing },
  detail: {
    tags,
    operationId: 'removeTask',
    summary: 'Delete a task',
    description: 'It is in the trash for 30 days, unless `permanent` is `true`.',
  },
}

export const restoreTask = {
  headers: ChangeHeaders,
  params: TaskParams,
  response: { 200: Task, ...changing, ...withBody, ...growing },
  detail: { tags, operationId: 'restoreTask', summary: 'Take a task out of the trash' },
}

export const skipTask = {
  headers: ChangeHeaders,
  params: TaskParams,
  response: {
    200: Task,
    ...changing,
    ...withBody,
    409: Failure('idempotency_in_progress', 'not_recurring', 'recurrence_ended'),
  },
  detail: {
    tags,
    operationId: 'skipTask',
    summary: 'Move a recurring task to its next date',
    description: 'As completing it does, but with no task left behind.',
  },
}
