import { Type, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { t } from 'elysia'
import { createCheck } from '../http/body.ts'
import {
  ApiError,
  Failure,
  failures,
  mostFieldErrors,
  type FailureCode,
  type FieldError,
} from '../http/failures.ts'
import { OneOf } from '../http/values.ts'
import { Completion, keptFields, NewTask, Task, TaskChanges } from './schemas.ts'
import type { Bulk, Telling } from './writes/bulk.ts'
import type { Operation } from './writes/operation.ts'
import { wrongDue } from './writes/refusals.ts'

export const mostOperations = 100
export const mostBulkBytes = 512 * 1024

const id = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [1] })

const BulkOperation = t.Object(
  {
    op: OneOf(['create', 'update', 'complete', 'delete', 'restore']),
    id: t.Optional(Type.Integer({ ...id, description: 'Which task; ignored with `create`' })),
    if_version: t.Optional(
      Type.Integer({
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'As `If-Match`; ignored with `create`',
        examples: [7],
      }),
    ),
    data: t.Optional(
      Type.Unknown({
        description:
          'What a body of the single route has: a new task, fields to change, or `completed` (by default true)',
        examples: [{ title: 'Buy milk' }],
      }),
    ),
  },
  { title: 'BulkOperation' },
)
type BulkOperation = typeof BulkOperation.static

export const BulkRequest = t.Object(
  {
    atomic: t.Optional(
      t.Boolean({ description: 'Whether nothing is done if one is refused. Default: true' }),
    ),
    operations: t.Array(BulkOperation, {
      minItems: 1,
      maxItems: mostOperations,
      description: 'On different tasks',
    }),
  },
  {
    title: 'BulkRequest',
    examples: [
      {
        operations: [
          { op: 'create', data: { title: 'Buy milk' } },
          { op: 'complete', id: 1 },
        ],
      },
    ],
  },
)
export type BulkRequest = typeof BulkRequest.static

export const BulkResult = t.Object(
  {
    index: Type.Integer({ minimum: 0, description: 'Which operation, from 0' }),
    status: Type.Integer({ description: 'What the single route would answer', examples: [200] }),
    task: t.Optional(Task),
    code: t.Optional(t.String({ description: 'Why it is refused, for a program' })),
    detail: t.Optional(t.String({ description: 'Why it is refused, for a person' })),
    current: t.Optional(Task),
  },
  { title: 'BulkResult' },
)
export const BulkResults = t.Object({ results: t.Array(BulkResult) }, { title: 'BulkResults' })
export type BulkResults = typeof BulkResults.static

export const BulkRefused = t.Composite([
  Failure('idempotency_in_progress', 'bulk_refused'),
  t.Object({
    results: t.Optional(
      t.Array(BulkResult, {
        examples: [
          [
            {
              index: 1,
              status: 404,
              code: 'task_not_found',
              detail: failures.task_not_found.detail,
            },
          ],
        ],
      }),
    ),
  }),
])

/** How a result tells what became of its operation: as the route for one task would. */
export const tellings: Bulk['tellings'] = {
  created: { status: 201 },
  changed: { status: 200 },
  gone: { status: 204 },
  bulk_refused: refusal('bulk_refused'),
  not_owner: refusal('not_owner'),
  task_limit_reached: refusal('task_limit_reached'),
  task_not_found: refusal('task_not_found'),
  validation_failed: {
    ...refusal('validation_failed'),
    // Only the stored task can tell whether it has a date, and which.
    detail:
      'due_time, due_timezone and recurrence need a due_date, and a recurrence has to come on or after it',
  },
  version_conflict: refusal('version_conflict'),
  wrong_due_date: { ...refusal('validation_failed'), detail: `due_date ${wrongDue.due_date}` },
  wrong_due_timezone: {
    ...refusal('validation_failed'),
    detail: `due_timezone ${wrongDue.due_timezone}`,
  },
}

function refusal(code: FailureCode): Telling {
  const { status, detail } = failures[code]
  return { status, code, detail }
}

/**
 * Reads the operations of a request by the rules of the routes for one task.
 *
 * @throws ApiError 422 with the fields that are wrong, as `operations.3.data.title`
 */
export function readOperations(operations: BulkRequest['operations']): Bulk['operations'] {
  const errors: FieldError[] = []
  const seen = new Set<number>()
  const read: Bulk['operations'][number][] = []
  for (const [index, given] of operations.entries()) {
    if (errors.length >= mostFieldErrors) break
    const addError = (field: string, detail: string) =>
      errors.push({ field: `operations.${index}.${field}`, detail })
    if (given.op !== 'create') {
      if (given.id === undefined) addError('id', 'is required')
      else if (seen.has(given.id))
        addError('id', 'is the task of an operation before it; give each its own request')
      else seen.add(given.id)
    }
    read.push({
      operation: readOperation(given, addError),
      ...(given.if_version !== undefined &&
        given.op !== 'create' && { precondition: [given.if_version] }),
    })
  }
  if (errors.length > 0)
    throw new ApiError('validation_failed', { errors: errors.slice(0, mostFieldErrors) })
  return read
}

type AddError = (field: string, detail: string) => void

const readNewTask = createDataReader(NewTask)
const readChanges = createDataReader(TaskChanges)
const readCompletion = createDataReader(Completion)

function readOperation({ op, id: task = 0, data }: BulkOperation, addError: AddError): Operation {
  switch (op) {
    case 'create': {
      const fields = keptFields(readNewTask(data, addError))
      for (const field of ['due_time', 'due_timezone', 'recurrence'] as const)
        if (fields[field] && !fields.due_date) addError(`data.${field}`, 'needs a due_date')
      return { op, fields }
    }
    case 'update':
      return { op, id: task, fields: keptFields(readChanges(data, addError)) }
    case 'complete': {
      const isDefault = data === undefined || isEmpty(data)
      const { completed = true } = isDefault ? {} : readCompletion(data, addError)
      return { op: 'update', id: task, fields: { completed } }
    }
    case 'delete':
    case 'restore':
      return { op, id: task }
  }
}

function isEmpty(data: unknown): boolean {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return false
  for (const _ in data) return false
  return true
}

/** Reads the `data` of an operation. */
function createDataReader<Schema extends TSchema>(schema: Schema) {
  const check = createCheck(schema)
  return function read(data: unknown, addError: AddError): Schema['static'] {
    const { known, errors } = check(data, '')
    if (errors === undefined) return Value.Decode(schema, known)
    for (const { field, detail } of errors) addError(field ? `data.${field}` : 'data', detail)
    return {}
  }
}
