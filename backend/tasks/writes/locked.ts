import { Locked } from '../../db/failures.ts'
import { createLine } from '../../db/line.ts'
import type { Database } from '../../db/pool.ts'
import { createTurns } from '../../db/turns.ts'
import { WaitedForOneself, WaitedTooLong } from '../../db/waiting.ts'

/** The rows that a write locks: the tasks with these ids, those that come after them, and the user's list. */
type Rows = { owner: string; ids: readonly number[] }

export type WhenFree = ReturnType<typeof createWaitForRows>

/** How long a lone write may wait for a lock while other users wait behind it, in milliseconds. */
export const shortly = '10'

const forEver = '0'
const betweenLooks = 50 // ms
const longest = 500

/**
 * Lets writes wait for rows that somebody else has locked. As many as half of the connections wait in
 * PostgreSQL. The others look from time to time whether their rows are free: they hold no connection, and
 * none waits for the rows of another user.
 */
export function createWaitForRows(database: Database) {
  const { queryWithin, deadline, connections } = database
  const places = Math.floor(connections / 2)
  let taken = 0
  const width = Math.max(Math.floor(connections / 4), 1)
  const turns = createTurns({ places: width, perUser: 1, longestQueue: longest, deadline })
  const areFree = createLine<Rows, boolean>({ width: 1, most: 64, deadline, longest, send: look })

  /** Takes the locks that are free and gives them back: it waits for none. */
  async function look(asked: readonly Rows[], left: number): Promise<boolean[]> {
    const rows = asked.map(({ owner, ids }, place) => ({ place, user_id: owner, ids }))
    const locked = await queryWithin(left, asked.length)<{ place: number }>`
      with asked as materialized (
        -- With a condition on it, the planner takes it for one row and not for a hundred.
        select * from json_to_recordset(${JSON.stringify(rows)}::text::json)
          as asked (place int, user_id text, ids bigint[])
        where place >= 0
      ), wanted as materialized (
        select place, asked.user_id, of_series.id
        from asked, unnest(ids) as wanted (id),
          lateral (
            select next_task_id from todo_api.tasks
            where tasks.user_id = asked.user_id and tasks.id = wanted.id offset 0
          ) as task,
          unnest(array[wanted.id, next_task_id]) as of_series (id)
      )
      select place
      from wanted,
        lateral (
          select from todo_api.tasks
          where tasks.user_id = wanted.user_id and tasks.id = wanted.id offset 0
        ) as task
        left join lateral (
          select true as is_free from todo_api.tasks
          where tasks.user_id = wanted.user_id and tasks.id = wanted.id
          for update skip locked
        ) as found on true
      where is_free is null
      union all
      select place
      from asked,
        lateral (
          select from todo_api.task_lists where task_lists.user_id = asked.user_id offset 0
        ) as list
        left join lateral (
          select true as is_free from todo_api.task_lists where task_lists.user_id = asked.user_id
          for update skip locked
        ) as found on true
      where is_free is null`
    const placesOfLocked = new Set(locked.map(({ place }) => place))
    return asked.map((_, place) => !placesOfLocked.has(place))
  }

  /**
   * Makes a write once its rows are free.
   *
   * @param left of the deadline, in milliseconds
   * @param write is given what is left then, and how long it may wait for a lock
   * @throws WaitedTooLong, WaitedForOneself, QueueFull, and what `write` throws
   */
  return async function whenFree<Result>(
    rows: Rows,
    left: number,
    write: (left: number, patience: string) => Promise<Result>,
  ): Promise<Result> {
    const end = performance.now() + left
    const writeNow = async (patience: string) => write(end - performance.now(), patience)
    for (;;) {
      if (taken < places) {
        taken += 1
        try {
          return await writeNow(forEver)
        } finally {
          taken -= 1
        }
      }
      if (await areFree(rows.owner, rows, end - deadline).catch(asTooLong))
        try {
          return await turns.run(rows.owner, async () => writeNow(shortly))
        } catch (error) {
          if (!(error instanceof Locked)) throw error
        }
      await Bun.sleep(betweenLooks)
    }
  }
}

/** A look that found nothing free was no answer: who waits is not behind requests of their own. */
function asTooLong(error: unknown): never {
  throw error instanceof WaitedForOneself ? new WaitedTooLong() : error
}
