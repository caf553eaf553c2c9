import type { Database } from '../db/pool.ts'
import { ApiError } from '../errors.ts'
import { anySize, unlessTooLarge, type Unsent } from '../http/answers.ts'
import { taskChannel, taskColumns } from '../tasks/columns.ts'
import { currentPlace, readPlace, type Place } from '../tasks/list/place.ts'

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

export type TaskChanges = ReturnType<typeof createTaskChanges>

const eventsAtOnce = 100

/**
 * A user's changes in the order of the list's counter, which is the order of commits: a reader who
 * has seen a number will never see a smaller one appear.
 */
export function createTaskChanges(database: Database) {
  const { query, queryFor, fragment } = database
  const columns = taskColumns(database)

  /** The next tasks and deleted tasks of the owner's that changed after a number, in order. */
  const changedAfter = (owner: string, after: number, limit: number) => fragment`
    (
      select id, change, deleted_at, created_change, restored_change
      from tasks where user_id = ${owner} and change > ${after}::bigint
      order by change limit ${limit}::int
    ) union all (
      select id, change, deleted_at, 0, 0
      from deleted_tasks where user_id = ${owner} and change > ${after}::bigint
      order by change limit ${limit}::int
    )
    order by change limit ${limit}::int`

  const state = (owner: string) => fragment`
    ${currentPlace(database, owner)},
    coalesce((select purged_through from task_lists where user_id = ${owner}), 0) as purged_through`

  return {
    /**
     * What changed since a token, or everything.
     *
     * @param most how many bytes it may have
     * @throws NeedsRoom where it has more; ApiError 410 `sync_token_expired`, 422 where it is no token of this user's
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
            (select row_to_json(task)::text from (select ${columns} from tasks where tasks.id = page.id) task),
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
      // Deletions up to here are known: from before, or because the copy began with nothing.
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
          (select value from epoch) as epoch, change,
          case
            when changed.deleted_at is not null then 'task.deleted'
            when created_change > ${after}::bigint then 'task.created'
            when restored_change > ${after}::bigint then 'task.restored'
            else 'task.updated'
          end as type,
          case
            when changed.deleted_at is not null then json_build_object('id', id)::text
            else (select row_to_json(task)::text from (select ${columns} from tasks where tasks.id = changed.id) task)
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
     * Of which users there are changes after one of these places, or another epoch; and the epoch. That
     * of a list which is not even so far is none: its user was forgotten (`bun run forget`).
     */
    async behind(
      places: readonly (Place & { owner: string })[],
    ): Promise<{ owner: string; epoch: string }[]> {
      const known = JSON.stringify(places)
      return query<{ owner: string; epoch: string }>`
        select distinct
          owner, case when reached < counter then 'none' else (select value from epoch) end as epoch
        from (
          select
            owner, epoch, counter,
            coalesce((select counter from task_lists where user_id = known.owner), 0) as reached
          from json_to_recordset(${known}::text::json) as known (owner text, epoch text, counter bigint)
        ) as known
        where epoch <> (select value from epoch) or reached <> counter`
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

/**
 * How far a copy has come: it has seen all changes up to `seen`, and knows of all deletions up to
 * `complete`, which is further while a first copy is still being read.
 */
type Progress = { epoch: string; seen: number; complete: number }

/** A token says how far its user has come. The digest keeps it from being used for another's list. */
export function writeSyncToken(progress: Progress, owner: string): string {
  const { epoch, seen, complete } = progress
  const parts = [seen, complete, digest(owner, progress)]
  return (epoch === '' ? parts : [epoch, ...parts]).join('.')
}

function readSyncToken(token: string, owner: string): Progress {
  const [, epoch = '', seen, complete, check] =
    /^(?:([0-9a-f]{8})\.)?(\d{1,15})\.(\d{1,15})\.([\w-]+)$/.exec(token) ?? []
  const progress = { epoch, seen: Number(seen), complete: Number(complete) }
  if (check === undefined || check !== digest(owner, progress))
    throw new ApiError('validation_failed', {
      errors: [{ field: 'since', detail: 'must be a Sync-Token that this user was given' }],
    })
  return progress
}

/**
 * Where the stream begins for a client that has a Sync-Token, or an event's id. A text that is
 * neither is beyond all changes: nothing can be resumed from there.
 */
export function readPosition(text: string, owner: string): Place {
  const place = readPlace(text)
  if (place !== undefined) return place
  try {
    const { epoch, seen } = readSyncToken(text, owner)
    return { epoch, counter: seen }
  } catch {
    return { epoch: '', counter: Infinity }
  }
}

function digest(owner: string, { epoch, seen, complete }: Progress): string {
  const text = JSON.stringify([owner, seen, complete, ...(epoch === '' ? [] : [epoch])])
  return new Bun.CryptoHasher('sha256').update(text).digest('base64url').slice(0, 12)
}
