import type { Database } from '../db/pool.ts'
import { taskChannel, taskColumns } from '../tasks/columns.ts'
import type { Place } from '../tasks/list/place.ts'
import { createChangedAfter, createListState } from './changed.ts'
import { createPageOfChanges } from './page.ts'

/** Something that happened to a task, as the stream of events tells it. */
export type TaskEvent = {
  epoch: string
  change: number
  type: 'task.created' | 'task.updated' | 'task.deleted' | 'task.restored'
  /** The task, or `{id}`. */
  json: string
}

export type ChangeFeed = ReturnType<typeof createChangeFeed>

const eventsAtOnce = 100

/**
 * A user's changes in the order of the list's counter, which is the order of commits: a reader who
 * has seen a number will never see a smaller one appear.
 */
export function createChangeFeed(database: Database) {
  const { query, queryFor } = database
  const columns = taskColumns(database)
  const changedAfter = createChangedAfter(database)
  const state = createListState(database)

  return {
    since: createPageOfChanges(database),

    /** The place of the owner's last change, and the number of the last that has been forgotten. */
    async position(owner: string): Promise<Place & { purged_through: number }> {
      const [found] = await queryFor(owner)<
        Place & { purged_through: number }
      >`select ${state(owner)}`
      return found!
    },

    /** What changed after a number, by the last change of each task, at most a few hundred. */
    async eventsAfter(owner: string, after: number): Promise<TaskEvent[]> {
      return queryFor(owner)<TaskEvent>`
        select
          (select value from todo_api.epoch) as epoch, change,
          case
            when changed.deleted_at is not null then 'task.deleted'
            when created_change > ${after}::bigint then 'task.created'
            when restored_change > ${after}::bigint then 'task.restored'
            else 'task.updated'
          end as type,
          case
            when changed.deleted_at is not null then json_build_object('id', id)::text
            else (select row_to_json(task)::text from (select ${columns} from todo_api.tasks where tasks.user_id = ${owner} and tasks.id = changed.id) task)
          end as json
        from (${changedAfter(owner, after, eventsAtOnce)}) as changed
        order by change`
    },

    /** Tells every process that listens whose tasks have changed. */
    async announce(owners: readonly string[]): Promise<void> {
      await query`
        select pg_notify(${taskChannel}, owner)
        from json_array_elements_text(${JSON.stringify(owners)}::text::json) as owner`
    },

    /**
     * The users who have changes after one of these places, or another epoch; and that epoch. That of a
     * list which is not even so far is none: its user was forgotten (`bun run forget`).
     */
    async behind(
      places: readonly (Place & { owner: string })[],
    ): Promise<{ owner: string; epoch: string }[]> {
      const known = JSON.stringify(places)
      return query<{ owner: string; epoch: string }>`
        select distinct
          owner,
          case when reached < counter then 'none' else (select value from todo_api.epoch) end as epoch
        from (
          select
            known.*,
            coalesce((
              select counter from todo_api.task_lists where user_id = known.owner
            ), 0) as reached
          from json_to_recordset(${known}::text::json) as known (owner text, epoch text, counter bigint)
        ) as known
        where epoch <> (select value from todo_api.epoch) or reached <> counter`
    },
  }
}
