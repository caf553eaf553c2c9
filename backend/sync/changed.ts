import type { Database } from '../db/pool.ts'
import type { Fragment } from '../db/sql.ts'
import { currentPlace } from '../tasks/list/place.ts'

/** SQL for the next tasks and deleted tasks of an owner that changed after a number, in order. */
export function createChangedAfter({ fragment }: Database) {
  return (owner: string, after: number, limit: number): Fragment => fragment`
    (
      select id, change, deleted_at, created_change, restored_change
      from todo_api.tasks where user_id = ${owner} and change > ${after}::bigint
      order by change limit ${limit}::int
    ) union all (
      select id, change, deleted_at, 0, 0
      from todo_api.deleted_tasks where user_id = ${owner} and change > ${after}::bigint
      order by change limit ${limit}::int
    )
    order by change limit ${limit}::int`
}

/** SQL for the place of an owner's last change, and the number of the last that has been forgotten. */
export function createListState(database: Database) {
  return (owner: string): Fragment => database.fragment`
    ${currentPlace(database, owner)},
    coalesce((select purged_through from todo_api.task_lists where user_id = ${owner}), 0) as purged_through`
}
