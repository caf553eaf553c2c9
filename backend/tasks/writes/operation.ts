import type { Idempotency } from '../idempotency.ts'
import type { Precondition } from '../preconditions.ts'
import { remindersOf } from '../reminders.ts'
import type { NewTask, TaskChanges } from '../schemas.ts'

/** One change to one task, or a new one. */
export type Operation =
  | { op: 'create'; fields: NewTask }
  | { op: 'update'; id: number; fields: TaskChanges }
  | { op: 'toggle' | 'skip' | 'delete' | 'restore' | 'destroy'; id: number }

/** An operation, whose it is, and on what terms. */
export type Write = {
  owner: string
  operation: Operation
  precondition?: Precondition | undefined
  idempotency?: Idempotency | undefined
  /** Whether it may make another task, or take one away: most writes need not pay for a statement that can. */
  ofSeries?: boolean
}

/** Whether an operation says by itself that it is about a task that comes again. */
export function namesSeries(operation: Operation): boolean {
  if (operation.op === 'skip') return true
  return (
    'fields' in operation &&
    (operation.fields.recurrence !== undefined || operation.fields.recurrence_from !== undefined)
  )
}

/** The writes as rows of the statement's input. */
export function rowsOf(writes: readonly Write[]): object[] {
  return writes.map(({ owner, operation, precondition, idempotency }, place) => ({
    place,
    user_id: owner,
    kind: kindOf(operation),
    aims_at: 'id' in operation ? 'task' : 'list',
    op: operation.op,
    ...('id' in operation && { id: operation.id }),
    ...(Array.isArray(precondition) && { versions: precondition }),
    ...idempotency,
    ...('fields' in operation && fieldsOf(operation)),
  }))
}

function fieldsOf(operation: Extract<Operation, { fields: object }>): object {
  if (operation.op === 'create')
    return {
      completed: false,
      priority: 'none',
      tags: [],
      ...operation.fields,
      reminders: remindersOf(operation.fields) ?? [],
      ...seriesOf(operation.fields),
    }
  const { description, due_date } = operation.fields
  // If the date goes, its time and zone go, too.
  const gone = due_date === null ? null : undefined
  const { due_time = gone, due_timezone = gone } = operation.fields
  return {
    ...operation.fields,
    due_time,
    due_timezone,
    reminders: remindersOf(operation.fields),
    ...seriesOf(operation.fields),
    sets_description: description !== undefined,
    sets_due_date: due_date !== undefined,
    sets_due_time: due_time !== undefined,
    sets_due_timezone: due_timezone !== undefined,
  }
}

/** The fields about the series, apart, since most writes have none. */
function seriesOf({
  recurrence,
  recurrence_from,
}: Pick<TaskChanges, 'recurrence' | 'recurrence_from'>): object {
  const series = { recurrence, recurrence_from }
  return recurrence === undefined && recurrence_from === undefined ? {} : { series }
}

export type Kind = 'create' | 'change' | 'destroy'

/** What is done to the row: it is inserted, updated or deleted. */
export function kindOf({ op }: Operation): Kind {
  return op === 'create' || op === 'destroy' ? op : 'change'
}
