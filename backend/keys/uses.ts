import type { Database } from '../db/pool.ts'

const patience = 250 // ms
const restAfterFailure = 60_000 // ms

/** The part of a key that is needed to record its use. */
type Used = { hash: string }

/**
 * Records when keys were used, to the minute, without delaying anybody: no request waits for it, and it
 * takes one connection of the database at a time, for a quarter of a second at most. If that is not enough,
 * such as while the table is locked or on a standby, it pauses for a minute: keys work all the same.
 */
export function createUses({ queryWithin, fragment }: Pick<Database, 'queryWithin' | 'fragment'>) {
  // If another process holds the row, it is writing the same.
  const writeStatement = fragment`
    with due as (
      select user_id, id from todo_api.personal_keys
      where hash = any (array(select json_array_elements_text(${''}::text::json)))
        and coalesce(last_used_at < date_trunc('minute', now()), true)
      order by user_id, id for update skip locked
    )
    update todo_api.personal_keys set last_used_at = date_trunc('minute', now())
    from due where personal_keys.user_id = due.user_id and personal_keys.id = due.id`

  const unwritten = new Set<string>()
  let isWriting = false
  let restsUntil = 0

  async function writeAll(): Promise<void> {
    isWriting = true
    try {
      while (unwritten.size > 0) {
        const statement = writeStatement.with([JSON.stringify([...unwritten])])
        unwritten.clear()
        await queryWithin(patience, 1)`${statement}`
      }
    } catch {
      unwritten.clear()
      restsUntil = performance.now() + restAfterFailure
    } finally {
      isWriting = false
    }
  }

  return function noteUses(keys: readonly Used[]): void {
    if (performance.now() < restsUntil) return
    for (const { hash } of keys) unwritten.add(hash)
    if (unwritten.size > 0 && !isWriting) void writeAll()
  }
}
