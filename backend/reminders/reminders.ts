import { createLine } from '../db/line.ts'
import { Locked } from '../db/failures.ts'
import type { Database } from '../db/pool.ts'
import type { Fragment } from '../db/sql.ts'
import { addLists } from '../tasks/list/missing.ts'

/**
 * Makes events of the owner's reminders that are due, each once, however many processes ask.
 *
 * @returns whether any were due; then more may be
 * @throws DatabaseUnavailable
 */
export type FireReminders = (owner: string) => Promise<boolean>

const tasksAtOnce = 500 // so that no statement is long

/** The database says whether a reminder is due, by its own clock. */
export function createFireReminders({ query, queryWithin, deadline }: Database): FireReminders {
  const fireTogether = createLine<string, boolean>({
    rowOf: (owner) => owner,
    width: 1,
    most: 64,
    deadline,
    longest: 2,
    async send(owners, left) {
      const fired = await fireUnlessLocked(owners, left)
      if (fired) return fired
      // Somebody holds a row of one of them, and the others need not wait for it.
      const byThemselves: boolean[] = []
      for (const owner of owners)
        byThemselves.push(...((await fireUnlessLocked([owner], left)) ?? [false]))
      return byThemselves
    },
  })

  async function fireUnlessLocked(
    owners: readonly string[],
    left: number,
  ): Promise<boolean[] | undefined> {
    try {
      const rows = await queryWithin(left, owners.length)<{ owner: string; has_list: boolean }>`
        with asked as (
          select array(select json_array_elements_text(${JSON.stringify(owners)}::text::json)) as owners
        )
        select owner, true as has_list
        from asked, lateral todo_api.fire_reminders(owners, ${tasksAtOnce}::int)
        union all
        select owner, false from asked, unnest(owners) as owner
        where (select true from todo_api.task_lists where user_id = owner limit 1) is null
          and (
            select true from todo_api.reminders
            where user_id = owner and change is null and fires_at <= now() order by fires_at limit 1
          )`
      const without = rows.filter(({ has_list }) => !has_list).map(({ owner }) => owner)
      if (without.length > 0) await addLists(query, without)
      const fired = new Set(rows.map(({ owner }) => owner))
      return owners.map((owner) => fired.has(owner))
    } catch (error) {
      if (error instanceof Locked) return undefined
      throw error
    }
  }

  return async function fire(owner) {
    return fireTogether(owner, owner)
  }
}

/** In how many milliseconds the owner's next reminder is due, by the database's clock; null if none waits. */
export function untilNextReminder(
  { fragment }: Pick<Database, 'fragment'>,
  owner: string,
): Fragment {
  return fragment`(
    select ceil(extract(epoch from fires_at - clock_timestamp()) * 1000)::bigint
    from todo_api.reminders where user_id = ${owner} and change is null
    order by fires_at limit 1
  )`
}
