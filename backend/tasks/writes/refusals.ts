import { StatementFailed } from '../../db/failures.ts'
import type { Query } from '../../db/sql.ts'
import { ApiError } from '../../http/failures.ts'
import type { Idempotency } from '../idempotency.ts'

/** Why PostgreSQL may refuse a write, and what is done about it. */

/** A partition's key has a name of its own: `idempotency_keys_3_pkey`. */
const keyConstraint = /^idempotency_keys_(\d+_)?pkey$/

export function isKeyTaken(error: unknown): boolean {
  return error instanceof StatementFailed && keyConstraint.test(error.constraint ?? '')
}
const invalidParameterValue = '22023'

/** What is wrong with when a task would be due, by the field that is at fault. */
export const wrongDue = {
  due_date: 'must be in the years 1 to 9999 in UTC, too',
  due_timezone: 'must be the name of a time zone, such as Europe/Paris',
}

/** The field at fault if a task cannot be due when a write says: only the database knows its rest, and zones. */
export function wrongDueField(error: unknown): keyof typeof wrongDue | undefined {
  if (!(error instanceof StatementFailed)) return undefined
  if (error.constraint === 'due_at_has_a_year') return 'due_date'
  return error.sqlState === invalidParameterValue ? 'due_timezone' : undefined
}

/** What only the database can know of a due date: the rest of the task, and its time zones. */
export function refuseDueDate(error: unknown): never {
  if (!(error instanceof StatementFailed)) throw error
  for (const field of ['due_time', 'due_timezone', 'recurrence'])
    if (error.constraint === `${field}_needs_due_date`)
      throw new ApiError('validation_failed', { errors: [{ field, detail: 'needs a due_date' }] })
  if (error.constraint === 'recurrence_falls') refuseRule('recurrence')
  const field = wrongDueField(error)
  if (field === undefined) throw error
  throw new ApiError('validation_failed', { errors: [{ field, detail: wrongDue[field] }] })
}

/** A rule that has no date on or after the one on which it starts, or nothing to start on. */
export function refuseRule(field: string, isDated = true): never {
  const detail = isDated
    ? 'never comes on or after the due_date, where it starts'
    : 'needs a due_date'
  throw new ApiError('validation_failed', { errors: [{ field, detail }] })
}

/** A key that is a day old no longer counts, but is in the way until it is purged. */
export async function forgetOldKey(
  query: Query,
  owner: string,
  { key }: Idempotency,
): Promise<void> {
  await query`
    delete from todo_api.idempotency_keys
    where user_id = ${owner} and key = ${key} and created_at <= now() - interval '24 hours'`
}
