import type { Database } from '../db/pool.ts'
import { anySize, unlessTooLarge, type Unsent } from '../db/written.ts'
import { ApiError } from '../http/failures.ts'
import { taskColumns } from '../tasks/columns.ts'
import type { Place } from '../tasks/list/place.ts'
import { readSyncToken, writeSyncToken } from '../tasks/sync-token.ts'
import { createChangedAfter, createListState } from './changed.ts'

/** A page of what changed, ready to be sent. */
export type PageOfChanges = {
  /** JSON arrays that PostgreSQL wrote: tasks, and `{id, deleted_at}`. */
  items: string
  deleted: string
  token: string
  hasMore: boolean
  /** The size of the whole page in UTF-8, in bytes. */
  bytes: number
}

type PageRow = Place & {
  purged_through: number
  /** Of the tasks. */
  json: string
  deleted: string
  bytes: number
  last: number | null
  has_more: boolean
}

/** Pages of what changed, for those who keep a copy. */
export function createPageOfChanges(database: Database) {
  const { queryFor } = database
  const columns = taskColumns(database)
  const changedAfter = createChangedAfter(database)
  const state = createListState(database)

  /**
   * What changed since a token, or everything.
   *
   * @param most how many bytes it may have
   * @throws NeedsRoom if it has more; ApiError `sync_token_expired`, or `validation_failed` if it is no token of
   *   this user's
   */
  return async function since(
    owner: string,
    token: string | undefined,
    limit: number,
    most = anySize,
  ): Promise<PageOfChanges> {
    const from = token === undefined ? undefined : readSyncToken(token, owner)
    const [page] = await queryFor(owner)<Unsent<PageRow>>`
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
  }
}
