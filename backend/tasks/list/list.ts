import { StatementFailed, type Database, type Fragment } from '../../db/pool.ts'
import { anySize, NeedsRoom, unlessTooLarge, type Unsent } from '../../db/written.ts'
import { taskColumns } from '../columns.ts'
import { currentPlace, writePlace, type Place } from './place.ts'
import type { ListQuery } from '../schemas.ts'
import { digest, keyOf, readCursor, refuseCursor, writeCursor } from './cursor.ts'
import { conditionsOf, isEverything } from './filter.ts'
import { createPageMemory, type TaskPage } from './memory.ts'
import { readRequest, refuse, type ListRequest } from './request.ts'
import { createWholeReader } from './whole.ts'

export type TaskList = ReturnType<typeof createTaskList>

/** Unchanged: the client holds this page already. */
type Found = { state: 'unchanged'; tag: string } | ({ state: 'changed' } & TaskPage)

type IsHeld = (tag: string) => boolean

/** A user's tasks: filtered, sorted, page by page. */
export function createTaskList(database: Database) {
  const { queryFor, fragment } = database
  const readWhole = createWholeReader(database)
  const columns = taskColumns(database)
  const pages = createPageMemory()

  /**
   * A page that was read before is sent again as long as the list's place, which every write to it
   * moves on, is what it was then. It is looked up each time, so that no page is ever old.
   *
   * @param isHeld whether the client has the page with a tag; absent if it has none
   * @param most how many bytes the page may have
   * @throws NeedsRoom if it has more; ApiError `validation_failed` if the cursor is not one of this
   *   query, or PostgreSQL knows no such zone
   */
  return async function list(
    owner: string,
    asked: ListQuery,
    isHeld?: IsHeld,
    most = anySize,
  ): Promise<Found> {
    const request = readRequest(asked)
    // What is overdue changes by itself, without a change that would be counted.
    if (request.filter.overdue !== undefined) {
      const page = await read(owner, request, asked.cursor, most)
      return unlessHeld(isHeld, { ...page, tag: digest(`${page.total} ${page.json}`) })
    }
    const whole = JSON.stringify([owner, request, asked.cursor])
    const remembered = pages.get(whole)
    const name = remembered?.name ?? digest(whole)
    const isWhole = isEverything(request.filter) && isPlain(request, asked.cursor)
    // A client that holds a page is likely to hold this one.
    const wanted = isWhole && (remembered !== undefined || isHeld === undefined)
    if (wanted || isHeld !== undefined || remembered !== undefined) {
      const { json, bytes, total, ...place } = await readWhole(owner, {
        owner,
        known: remembered && writePlace(remembered.page.place),
        wanted,
        most,
      })
      const tag = `${writePlace(place)}-${name}`
      if (isHeld?.(tag)) return { state: 'unchanged', tag }
      if (remembered?.page.tag === tag) {
        if (remembered.page.bytes > most) throw new NeedsRoom(remembered.page.bytes)
        return { state: 'changed', ...remembered.page }
      }
      if (wanted)
        return {
          state: 'changed',
          ...remember(whole, name, { ...unlessTooLarge({ json, bytes }), total, place, tag }),
        }
    }
    const content = await read(owner, request, asked.cursor, most)
    const tag = `${writePlace(content.place)}-${name}`
    return unlessHeld(isHeld, remember(whole, name, { ...content, tag }))
  }

  function remember(asked: string, name: string, page: TaskPage): TaskPage {
    pages.set(asked, { name, page })
    return page
  }

  async function read(
    owner: string,
    request: ListRequest,
    cursor: string | undefined,
    most: number,
  ): Promise<Omit<TaskPage, 'tag'>> {
    const { filter, sort, limit = null } = request
    const conditions = conditionsOf(database, owner, filter)
    const key = keyOf(database, sort)
    const direction = sort.descending ? fragment`desc` : fragment`asc`
    const order = fragment`${key.expression} ${direction}, id ${direction}`
    const place = currentPlace(database, owner)
    const sized = fragment`
      octet_length(json) as bytes, case when octet_length(json) <= ${most}::bigint then json end as json`
    if (limit === null && cursor === undefined) {
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
    const after = cursor === undefined ? undefined : readCursor(cursor, owner, request, key)
    const isAfter = (sorted: Fragment) =>
      after === undefined
        ? fragment`true`
        : fragment`(${sorted}, id) ${sort.descending ? fragment`<` : fragment`>`}
            (${after.key}::text::${key.type}, ${after.id}::bigint)`
    const atMost = fragment`limit ${limit === null ? null : limit + 1}::int`
    // Of a list without a filter the number is kept, and the page is read from an index up to its end.
    // Otherwise what is counted is what the page is cut from: the filter is gone through once.
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
}

type Content = Place & { total: number; json: string; bytes: number }

type Page = Content & {
  last_key: string | null
  last_id: number | null
  has_more: boolean | null
}

/** Whether all tasks are on one page, in the order in which they were created. */
function isPlain({ sort, limit }: ListRequest, cursor: string | undefined): boolean {
  return sort.by === 'created' && !sort.descending && limit === undefined && cursor === undefined
}

function contentOf({ epoch, counter, ...content }: Content): Omit<TaskPage, 'tag'> {
  return { ...content, place: { epoch, counter } }
}

function unlessHeld(isHeld: IsHeld | undefined, page: TaskPage): Found {
  const { tag } = page
  return isHeld?.(tag) ? { state: 'unchanged', tag } : { state: 'changed', ...page }
}

/** A zone that this program knows and PostgreSQL does not, or a cursor that somebody made up. */
function refuseArguments(error: unknown): never {
  if (!(error instanceof StatementFailed)) throw error
  if (error.sqlState === '22023')
    refuse('tz', 'must be the name of a time zone, such as Europe/Paris')
  if (error.sqlState.startsWith('22')) refuseCursor()
  throw error
}
