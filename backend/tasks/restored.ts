import type { Database } from '../db/pool.ts'
import { addLists } from './list/missing.ts'

const deadline = 60 * 60_000 // ms: every task is written
const usersAtOnce = 100

/**
 * Tells a database that it was restored from a backup, so that nothing is believed any more that
 * clients were given in the future that is lost: tags of lists, sync tokens and ids of events by a new
 * epoch; versions and ids of tasks, which are numbers everywhere, by a leap over those that may have
 * been given out. Both are random: the same backup may be restored again. Users whom a partial restore
 * has left without a list get one.
 *
 * @throws DatabaseUnavailable, StatementFailed; nothing has changed then, or it can be run again
 */
export async function markRestored(database: Database): Promise<void> {
  const epoch = Buffer.from(crypto.getRandomValues(new Uint8Array(4))).toString('hex')
  const leap = 1_000_000 + crypto.getRandomValues(new Uint32Array(1))[0]!
  await database.script(
    `select set_config('statement_timeout', '0', true);
     update todo_api.epoch set value = '${epoch}';
     update todo_api.tasks set version = version + ${leap};
     select setval(sequence, nextval(sequence) + ${leap})
     from pg_get_serial_sequence('todo_api.tasks', 'id') as sequence`,
    deadline,
  )
  for (;;) {
    const without = await database.query<{ user_id: string }>`
      select distinct user_id from todo_api.tasks
      where not exists (select from todo_api.task_lists where task_lists.user_id = tasks.user_id)
      limit ${usersAtOnce}`
    if (without.length === 0) return
    await addLists(
      database.query,
      without.map(({ user_id }) => user_id),
    )
  }
}
