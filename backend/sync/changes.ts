import type { Database } from '../db/pool.ts'
import { untilNextReminder } from '../reminders/reminders.ts'
import { taskChannel, taskColumns } from '../tasks/columns.ts'
import { currentPlace, type Place } from '../tasks/list/place.ts'
import { createChangedAfter, createListState } from './changed.ts'
import { createPageOfChanges } from './page.ts'

/** Something that happened to a task, as the stream of events tells it. */
export type TaskEvent = {
  change: number
  type: 'task.created' | 'task.updated' | 'task.deleted' | 'task.restored' | 'reminder.due'
  /** The task, or `{id}`, or `{task, fires_at, late}`. */
  json: string
}

/** What there is to tell after a place, and the place that the list has come to. */
export type News = Place & {
  events: TaskEvent[]
  /** In how many milliseconds a reminder is due; null if none waits. */
  until_reminder: number | null
}

/**
 * The place of a list's last change, the number of the last that has been forgotten, and of the first
 * reminder that was told in the last minute.
 */
export type Position = Place & { purged_through: number; just_told: number | null }

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

    /** How far the owner's list has come. */
    async position(owner: string): Promise<Position> {
      const [found] = await queryFor(owner)<Position>`
        select
          ${state(owner)},
          (
            select min(change) from todo_api.reminders
            where user_id = ${owner} and change > coalesce((
              select change from todo_api.reminders
              where user_id = ${owner} and change is not null and fired_at <= now() - interval '1 minute'
              order by change desc limit 1
            ), 0)
          ) as just_told`
      return found!
    },

    /**
     * What changed after a number, by the last change of each task; and the reminders that were told after
     * a number, for a day and unless their task has been completed or deleted since. At most a hundred.
     */
    async newsAfter(owner: string, after: number, toldAfter = after): Promise<News> {
      const rows = await queryFor(owner)<Omit<News, 'events'> & (TaskEvent | { change: null })>`
        select place.*, event.*
        from (
          select ${currentPlace(database, owner)}, ${untilNextReminder(database, owner)} as until_reminder
        ) as place
        left join (
          select
            change,
            case
              when fires_at is not null then 'reminder.due'
              when deleted_at is not null then 'task.deleted'
              when created_change > ${after}::bigint then 'task.created'
              when restored_change > ${after}::bigint then 'task.restored'
              else 'task.updated'
            end as type,
            case
              when deleted_at is not null then json_build_object('id', id)::text
              when fires_at is null then task
              else concat(
                '{"task":', task,
                ',"fires_at":"', to_char(fires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                '","late":', (fires_at < clock_timestamp() - interval '1 minute')::text, '}'
              )
            end as json
          from (
            (select *, null::timestamptz as fires_at from (${changedAfter(owner, after, eventsAtOnce)}) as changed)
            union all
            (
              select task_id, change, null, 0, 0, fires_at from todo_api.reminders
              where user_id = ${owner} and change > ${toldAfter}::bigint
                and fired_at > now() - interval '24 hours'
                and (
                  select true from todo_api.tasks
                  where tasks.user_id = ${owner} and tasks.id = task_id and not completed and tasks.deleted_at is null
                )
              order by change limit ${eventsAtOnce}::int
            )
            order by change limit ${eventsAtOnce}::int
          ) as happened
          left join lateral (
            select row_to_json(task)::text as task
            from (
              select ${columns} from todo_api.tasks
              where tasks.user_id = ${owner} and tasks.id = happened.id and happened.deleted_at is null
            ) as task
            offset 0
          ) as now_so on true
        ) as event on true
        order by change`
      const { epoch, counter, until_reminder } = rows[0]!
      const events = rows.filter((row) => row.change !== null)
      return { epoch, counter, until_reminder, events }
    },

    /** Tells every process that listens whose tasks have changed. */
    async announce(owners: readonly string[]): Promise<void> {
      await query`
        select pg_notify(${taskChannel}, owner)
        from json_array_elements_text(${JSON.stringify(owners)}::text::json) as owner`
    },

    /**
     * The users who have changes after one of these places, or another epoch, or a reminder that is due;
     * with the epoch that is now. It is `none` for a list that has not come so far: its user was forgotten
     * (`bun run forget`).
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
        where epoch <> (select value from todo_api.epoch) or reached <> counter or (
          -- In their order, which is the index's: where few users have them all, the whole table was read for each.
          select true from todo_api.reminders
          where user_id = known.owner and change is null and fires_at <= now() order by fires_at limit 1
        )`
    },
  }
}
