import type { Logger } from 'pino'
import type { Database } from '../db/pool.ts'
import type { Fragment } from '../db/sql.ts'
import type { Metrics } from '../http/metrics.ts'
import { addLists } from './list/missing.ts'

const every = 60 * 60_000 // ms
const atOnce = 1_000 // rows, so that no statement is long
const lockKey = 7_326_417_206 // any number that nothing else in the database locks

/** Runs `purge` now and every hour, until it is told to stop. */
export function purgeRegularly(
  database: Database,
  log: Logger,
  metrics: Pick<Metrics, 'countPurged'>,
): () => void {
  async function run(): Promise<void> {
    try {
      const purged = await purge(database)
      log.debug({ purged }, 'purged')
      for (const [kind, rows] of Object.entries(purged)) metrics.countPurged(kind, rows)
    } catch (err) {
      log.warn({ err }, 'the next purge is in an hour')
    }
  }
  const timer = setInterval(() => void run(), every)
  void run()
  return () => clearInterval(timer)
}

/** How many rows of each kind are gone. */
export type Purged = {
  trashed: number
  deleted: number
  keys: number
  tickets: number
  reminders: number
  personal_keys: number
}

/**
 * Deletes for good what is past its time: tasks that have been in the trash for 30 days, what is left
 * of those deleted for good after as long, personal keys that expired as long ago, idempotency keys and past
 * reminders after 24 hours, and old tickets. A client that has not seen a change that goes here must start again:
 * its token is 410 from then on.
 *
 * Every process may run it at any time. One statement at a time does anything, it skips what somebody
 * else is at work on, and it locks a task before its list, as every write does.
 */
export async function purge(database: Database): Promise<Purged> {
  const { query, fragment } = database
  const isTurn = fragment`pg_try_advisory_xact_lock(${lockKey}::bigint)`

  /** The list remembers how far its changes may have been forgotten. */
  const forget = (table: Fragment) => async () =>
    query<Count>`
      with gone as (
        delete from ${table} where (user_id, id) in (
          select user_id, id from ${table}
          where deleted_at < now() - interval '30 days' and ${isTurn}
          order by deleted_at limit ${atOnce} for update skip locked
        )
        returning user_id, change
      ), forgotten as (
        update todo_api.task_lists set purged_through = greatest(purged_through, through)
        from (select user_id, max(change) as through from gone group by user_id) as last
        where task_lists.user_id = last.user_id
      )
      select count(*) from gone`

  /** Purging is recorded in the list, so every user whose rows are about to go must have one. */
  async function addMissingLists(): Promise<void> {
    const without = (table: Fragment) => fragment`
      select user_id from ${table} as past
      where deleted_at < now() - interval '30 days'
        and not exists (select from todo_api.task_lists where task_lists.user_id = past.user_id)`
    const rows = await query<{ user_id: string }>`
      ${without(fragment`todo_api.tasks`)} union ${without(fragment`todo_api.deleted_tasks`)} limit ${atOnce}`
    if (rows.length > 0)
      await addLists(
        query,
        rows.map(({ user_id }) => user_id),
      )
  }

  const drop = (table: Fragment, name: Fragment, isPast: Fragment) => async () =>
    query<Count>`
      with gone as (
        delete from ${table} where (user_id, ${name}) in (
          select user_id, ${name} from ${table} where ${isPast} limit ${atOnce} for update skip locked
        )
        returning 1
      )
      select count(*) from gone`

  await addMissingLists()
  return {
    trashed: await inTurns(forget(fragment`todo_api.tasks`)),
    deleted: await inTurns(forget(fragment`todo_api.deleted_tasks`)),
    keys: await inTurns(
      drop(
        fragment`todo_api.idempotency_keys`,
        fragment`key`,
        fragment`created_at < now() - interval '24 hours'`,
      ),
    ),
    tickets: await inTurns(
      drop(
        fragment`todo_api.event_tickets`,
        fragment`hash`,
        fragment`expires_at < now() - interval '1 minute'`,
      ),
    ),
    reminders: await inTurns(
      drop(
        fragment`todo_api.reminders`,
        fragment`task_id, fires_at`,
        fragment`coalesce(fired_at, fires_at) < now() - interval '24 hours'`,
      ),
    ),
    personal_keys: await inTurns(
      drop(
        fragment`todo_api.personal_keys`,
        fragment`id`,
        fragment`expires_at < now() - interval '30 days'`,
      ),
    ),
  }
}

type Count = { count: number }

async function inTurns(statement: () => Promise<Count[]>): Promise<number> {
  let total = 0
  for (;;) {
    const [{ count } = { count: 0 }] = await statement()
    total += count
    if (count < atOnce) return total
  }
}
