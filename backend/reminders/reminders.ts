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
  const shared = { width: 1, deadline, longest: 2, rowOf: (owner: string) => owner }
  /** Undefined for an owner whose rows somebody holds. */
  const fireTogether = createLine<string, boolean | undefined>({ ...shared, most: 64, send: fire })
  /** Those wait for a moment, and keep nobody else waiting. */
  const fireAlone = createLine<string, boolean | undefined>({ ...shared, most: 1, send: fire })

  async function fire(
    owners: readonly string[],
    left: number,
  ): Promise<readonly (boolean | undefined)[]> {
    try {
      const rows = await queryWithin(left, owners.length)<Fired>`
        with asked as (
          select array(select json_array_elements_text(${JSON.stringify(owners)}::text::json)) as owners
        )
        select owner, fired is null as is_held, true as has_list
        from asked, lateral todo_api.fire_reminders(owners, ${tasksAtOnce}::int)
        union all
        select owner, false, false from asked, unnest(owners) as owner
        where (select true from todo_api.task_lists where user_id = owner limit 1) is null
          and (
            select true from todo_api.reminders
            where user_id = owner and change is null and fires_at <= now() order by fires_at limit 1
          )`
      const without = rows.filter(({ has_list }) => !has_list).map(({ owner }) => owner)
      if (without.length > 0) await addLists(query, without)
      const fired = new Map(rows.map(({ owner, is_held }) => [owner, is_held ? undefined : true]))
      return owners.map((owner) => (fired.has(owner) ? fired.get(owner) : false))
    } catch (error) {
      if (error instanceof Locked) return owners.map(() => undefined)
      throw error
    }
  }

  return async function fireReminders(owner) {
    return (await fireTogether(owner, owner)) ?? (await fireAlone(owner, owner)) ?? false
  }
}

type Fired = { owner: string; is_held: boolean; has_list: boolean }

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
