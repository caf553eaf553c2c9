import { StatementFailed } from '../../db/failures.ts'
import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'
import { unlessTooLarge, type Unsent } from '../../db/written.ts'
import { taskColumns } from '../columns.ts'
import { keyOf, readCursor, refuseCursor, writeCursor } from './cursor.ts'
import { conditionsOf, isEverything } from './filter.ts'
import type { TaskPage } from './memory.ts'
import { currentPlace, type Place } from './place.ts'
import { refuseParameter, type ListRequest } from './request.ts'

type Content = Place & { total: number; json: string; bytes: number }

type Page = Content & {
  last_key: string | null
  last_id: number | null
  has_more: boolean | null
}

/**
 * Reads the tasks that a query asks for: all of them, or the page after a cursor.
 *
 * @param most how many bytes they may have
 * @throws NeedsRoom if they have more; ApiError `validation_failed` if the cursor is not one of this
 *   query, or PostgreSQL knows no such zone
 */
export function createPageReader(database: Database) {
  const columns = taskColumns(database)
  return async function read(
    owner: string,
    request: ListRequest,
    cursor: string | undefined,
    most: number,
  ): Promise<Omit<TaskPage, 'tag'>> {
    const parts = partsOf(database, owner, request, most)
    return request.limit === undefined && cursor === undefined
      ? readAll(database, columns, owner, parts)
      : readPage(database, columns, owner, parts, request, cursor)
  }
}

type Parts = ReturnType<typeof partsOf>

/** What the statements have in common. */
function partsOf(database: Database, owner: string, { filter, sort }: ListRequest, most: number) {
  const { fragment } = database
  const key = keyOf(database, sort)
  const direction = sort.descending ? fragment`desc` : fragment`asc`
  return {
    conditions: conditionsOf(database, owner, filter),
    key,
    direction,
    order: fragment`${key.expression} ${direction}, id ${direction}`,
    place: currentPlace(database, owner),
    sized: fragment`
      octet_length(json) as bytes, case when octet_length(json) <= ${most}::bigint then json end as json`,
  }
}

async function readAll(
  { queryFor }: Database,
  columns: Fragment,
  owner: string,
  { conditions, order, place, sized }: Parts,
): Promise<Omit<TaskPage, 'tag'>> {
  const [all] = await queryFor(owner)<Unsent<Content>>`
    select epoch, counter, total, ${sized}
    from (
      select
        ${place}, count(*) as total,
        '[' || coalesce(string_agg(row_to_json(task)::text, ','), '') || ']' as json
      from (select ${columns} from todo_api.tasks where ${conditions} order by ${order}) task
    ) as whole`.catch(refuseArguments)
  return contentOf(unlessTooLarge(all!))
}

async function readPage(
  { queryFor, fragment }: Database,
  columns: Fragment,
  owner: string,
  { conditions, key, direction, order, place, sized }: Parts,
  request: ListRequest,
  cursor: string | undefined,
): Promise<Omit<TaskPage, 'tag'>> {
  const { filter, sort, limit = null } = request
  const after = cursor === undefined ? undefined : readCursor(cursor, owner, request, key)
  const isAfter = (sorted: Fragment) =>
    after === undefined
      ? fragment`true`
      : fragment`(${sorted}, id) ${sort.descending ? fragment`<` : fragment`>`}
          (${after.key}::text::${key.type}, ${after.id}::bigint)`
  const atMost = fragment`limit ${limit === null ? null : limit + 1}::int`
  // The size of a list without a filter is kept, and its page is read from an index up to its end.
  // Otherwise the page is cut from the tasks that are counted, so that the filter is applied once.
  const [isOnPage, total] = isEverything(filter)
    ? [
        fragment`${conditions} and ${isAfter(key.expression)}`,
        fragment`coalesce(
          (select task_count from todo_api.task_lists where user_id = ${owner}),
          (select count(*) from todo_api.tasks where ${conditions})
        )`,
      ]
    : [
        fragment`user_id = ${owner} and id = any (array(
          select id from matching where ${isAfter(fragment`key`)}
          order by key ${direction}, id ${direction} ${atMost}
        ))`,
        fragment`(select count(*) from matching)`,
      ]
  const [page] = await queryFor(owner)<Unsent<Page>>`
    with matching as (
      select id, ${key.expression} as key from todo_api.tasks where ${conditions}
    ), page as (
      select *, ${key.expression} as key, row_number() over (order by ${order}) as position
      from todo_api.tasks where ${isOnPage}
      order by ${order} ${atMost}
    )
    select epoch, counter, total, last_key, last_id, has_more, ${sized}
    from (
      select
        ${place}, ${total} as total,
        '[' || coalesce(string_agg(json, ',' order by position) filter (where coalesce(position <= ${limit}::int, true)), '') || ']' as json,
        max(${key.text}) filter (where position = ${limit}::int) as last_key,
        max(id) filter (where position = ${limit}::int) as last_id,
        count(*) > ${limit}::int as has_more
      from page, lateral (select row_to_json(task)::text as json from (select ${columns}) task) as text
    ) as whole`.catch(refuseArguments)
  const { last_key, last_id, has_more, ...found } = unlessTooLarge(page!)
  const content = contentOf(found)
  if (!has_more) return content
  return { ...content, next: writeCursor({ key: last_key!, id: last_id! }, owner, request) }
}

function contentOf({ epoch, counter, ...content }: Content): Omit<TaskPage, 'tag'> {
  return { ...content, place: { epoch, counter } }
}

/** A zone that this program knows and PostgreSQL does not, or a cursor that somebody made up. */
function refuseArguments(error: unknown): never {
  if (!(error instanceof StatementFailed)) throw error
  if (error.sqlState === '22023')
    refuseParameter('tz', 'must be the name of a time zone, such as Europe/Paris')
  if (error.sqlState.startsWith('22')) refuseCursor()
  throw error
}
