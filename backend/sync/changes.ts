import type { Database } from '../db/pool.ts'
import { ApiError } from '../http/failures.ts'
import { anySize, unlessTooLarge, type Unsent } from '../db/written.ts'
import { taskChannel, taskColumns } from '../tasks/columns.ts'
import { currentPlace, type Place } from '../tasks/list/place.ts'
import { readSyncToken, writeSyncToken } from '../tasks/sync-token.ts'

/** A page of what changed, ready to be sent. */
export type Changes = {
  /** JSON arrays that PostgreSQL wrote: tasks, and `{id, deleted_at}`. */
  items: string
  deleted: string
  token: string
  hasMore: boolean
  /** How many the whole has in UTF-8. */
  bytes: number
}

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
  const { query, queryFor, fragment } = database
  const columns = taskColumns(database)

  /** The next tasks and deleted tasks of the owner's that changed after a number, in order. */
  const changedAfter = (owner: string, after: number, limit: number) => fragment`
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

  const state = (owner: string) => fragment`
    ${currentPlace(database, owner)},
    coalesce((select purged_through from todo_api.task_lists where user_id = ${owner}), 0) as purged_through`

  return {
    /**
     * What changed since a token, or everything.
     *
     * @param most how many bytes it may have
     * @throws NeedsRoom if it has more; ApiError `sync_token_expired`, or `validation_failed` if it is no token of
     *   this user's
     */
    async since(
      owner: string,
      token: string | undefined,
      limit: number,
      most = anySize,
    ): Promise<Changes> {
      const from = token === undefined ? undefined : readSyncToken(token, owner)
      const [page] = await queryFor(owner)<Unsent<ChangesPage>>`
        with page as (
          select *, row_number() over (order by change) as position
          from (${changedAfter(owner, from?.seen ?? 0, limit + 1)}) as changed
        )
        select
          epoch, counter, purged_through, last, has_more, deleted, bytes,
          case when bytes <= ${most}::bigint then items end as json
        from (select *, octet_length(items) + octet_length(deleted) as bytes from (select
          ${state(owner)},
          '[' || coalesce(string_agg(
            (select row_to_json(task)::text from (select ${columns} from todo_api.tasks where tasks.user_id = ${owner} and tasks.id = page.id) task),
            ',' order by position
          ) filter (where position <= ${limit}::int and deleted_at is null), '') || ']' as items,
          '[' || coalesce(string_agg(
            json_build_object('id', id, 'deleted_at', to_char(deleted_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))::text,
            ',' order by position
          ) filter (where position <= ${limit}::int and deleted_at is not null and ${from !== undefined}::boolean), '') || ']' as deleted,
          max(change) filter (where position <= ${limit}::int) as last,
          count(*) > ${limit}::int as has_more
        from page) as read) as sized`
      const { epoch, counter, purged_through, deleted, last, has_more } = page!
      if (from !== undefined && from.epoch !== epoch) throw new ApiError('sync_token_expired')
      // Deletions up to here are known, or do not matter to a copy that began with nothing.
      const complete = from === undefined ? counter : Math.max(from.seen, from.complete)
      if (from !== undefined && (complete < purged_through || from.seen > counter))
        throw new ApiError('sync_token_expired')
      const { json: items, bytes } = unlessTooLarge(page!)
      return {
        items,
        deleted,
        bytes,
        token: writeSyncToken({ epoch, seen: has_more ? last! : counter, complete }, owner),
        hasMore: has_more,
      }
    },

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

type ChangesPage = Place & {
  purged_through: number
  /** Of the tasks. */
  json: string
  deleted: string
  bytes: number
  last: number | null
  has_more: boolean
}
