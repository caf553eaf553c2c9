import type { Database } from '../db/pool.ts'
import type { Fragment } from '../db/sql.ts'

const atOnce = 1_000 // rows, so that no statement is long
const mostRounds = 5

/** How many rows of each table are gone. */
export type Forgotten = Record<string, number>

/** Rows of the user were written while they were removed, time and again. */
export class StillWriting extends Error {
  override readonly name = 'StillWriting'

  constructor() {
    super(
      'This user goes on writing: end their sessions at the auth server, wait until their tokens have expired, and run this again',
    )
  }
}

/**
 * Removes for good all that is kept of one user, and leaves no trace: not even that something was
 * deleted. It is not counted, so that followers do not hear of each task; their streams end instead,
 * and what they come back with is of a list that is not there (see `behind` in sync/changes.ts).
 *
 * Every statement is a transaction of its own and touches one table, so that none of other users'
 * requests waits for it. What a request of this user writes meanwhile is removed in the next round.
 *
 * @throws StillWriting, DatabaseUnavailable, StatementFailed; it can be run again
 */
export async function forget({ query, fragment }: Database, user: string): Promise<Forgotten> {
  async function remove(table: Fragment, key: Fragment): Promise<number> {
    // An array is read once. Rows in its place are read again for each that is deleted, where few are expected.
    const [found] = await query<{ count: number }>`
      with gone as (
        delete from ${table} where user_id = ${user} and ${key} = any (array(
          select ${key} from ${table} where user_id = ${user} limit ${atOnce} for update
        ))
        returning 1
      )
      select count(*) from gone`
    return found!.count
  }

  // The list is last: a write to a task of a user without one would make it anew.
  const tables: [name: string, table: Fragment, key: Fragment][] = [
    ['personal_keys', fragment`todo_api.personal_keys`, fragment`id`],
    ['event_tickets', fragment`todo_api.event_tickets`, fragment`hash`],
    ['idempotency_keys', fragment`todo_api.idempotency_keys`, fragment`key`],
    ['reminders', fragment`todo_api.reminders`, fragment`task_id`],
    ['tasks', fragment`todo_api.tasks`, fragment`id`],
    ['deleted_tasks', fragment`todo_api.deleted_tasks`, fragment`id`],
    ['task_lists', fragment`todo_api.task_lists`, fragment`user_id`],
  ]
  const forgotten: Forgotten = {}
  for (let round = 0; round < mostRounds; round += 1) {
    let rows = 0
    for (const [name, table, key] of tables)
      for (let count = atOnce; count >= atOnce; rows += count) {
        count = await remove(table, key)
        forgotten[name] = (forgotten[name] ?? 0) + count
      }
    if (rows === 0) return forgotten
  }
  throw new StillWriting()
}
