import { StatementFailed, type Database, type Fragment } from '../../db/pool.ts'
import { taskColumns } from '../columns.ts'
import { isKnown } from '../preconditions.ts'
import type { ListQuery } from '../schemas.ts'
import { digest, keyOf, readCursor, writeCursor } from './cursor.ts'
import { conditionsOf } from './filter.ts'
import { createPageMemory, type TaskPage } from './memory.ts'
import { readRequest, refuse, type ListRequest } from './request.ts'

export type TaskList = { state: 'unchanged'; tag: string } | ({ state: 'changed' } & TaskPage)

/** A user's tasks: filtered, sorted, page by page. */
export function createTaskList(database: Database) {
  const { query, fragment } = database
  const columns = taskColumns(database)
  const pages = createPageMemory()

  /**
   * A page that was read before is sent again as long as the list's counter, which every write to it
   * counts up, is what it was then. It is looked up each time, so that no page is ever old.
   *
   * @param known the client's `If-None-Match`
   * @throws ApiError 422 where the cursor is not one of this query, or PostgreSQL knows no such zone
   */
  return async function list(
    owner: string,
    asked: ListQuery,
    known: string | undefined,
  ): Promise<TaskList> {
    const request = readRequest(asked)
    // What is overdue changes by itself, without a change that would be counted.
    if (request.filter.overdue !== undefined) {
      const page = await read(owner, request, asked.cursor)
      return unlessKnown(known, { ...page, tag: digest(`${page.total} ${page.json}`) })
    }
    const whole = JSON.stringify([owner, request, asked.cursor])
    const remembered = pages.get(whole)
    const name = remembered?.name ?? digest(whole)
    if (known !== undefined || remembered !== undefined) {
      const [found] = await query<{ counter: number }>`
        select counter from task_lists where user_id = ${owner}`
      const counter = found?.counter ?? 0
      const tag = `${counter}-${name}`
      if (isKnown(known, tag)) return { state: 'unchanged', tag }
      if (remembered?.page.counter === counter) return { state: 'changed', ...remembered.page }
    }
    const content = await read(owner, request, asked.cursor)
    const page = { ...content, tag: `${content.counter}-${name}` }
    pages.set(whole, { name, page })
    return unlessKnown(known, page)
  }

  async function read(
    owner: string,
    request: ListRequest,
    cursor: string | undefined,
  ): Promise<Omit<TaskPage, 'tag'>> {
    const { filter, sort, limit } = request
    const conditions = conditionsOf(database, owner, filter)
    const key = keyOf(database, sort)
    const direction = sort.descending ? fragment`desc` : fragment`asc`
    const order = fragment`${key.expression} ${direction}, id ${direction}`
    const counter = fragment`coalesce((select counter from task_lists where user_id = ${owner}), 0) as counter`
    if (limit === undefined && cursor === undefined) {
      const [all] = await query<Omit<TaskPage, 'tag'>>`
        select
          ${counter}, count(*) as total,
          '[' || coalesce(string_agg(row_to_json(task)::text, ','), '') || ']' as json
        from (select ${columns} from tasks where ${conditions} order by ${order}) task`.catch(
        refuseArguments,
      )
      return all!
    }
    const after = cursor === undefined ? undefined : readCursor(cursor, owner, request)
    const isAfter =
      after === undefined
        ? fragment`true`
        : fragment`(${key.expression}, id) ${sort.descending ? fragment`<` : fragment`>`}
            (${after.key}::text::${key.type}, ${after.id}::bigint)`
    const isOnPage = limit === undefined ? fragment`true` : fragment`position <= ${limit}::int`
    const [page] = await query<Page>`
      with page as (
        select *, ${key.expression} as key, row_number() over (order by ${order}) as position
        from tasks where ${conditions} and ${isAfter}
        order by ${order}
        limit ${limit === undefined ? null : limit + 1}::int
      )
      select
        ${counter}, ${totalOf(owner, filter, conditions)} as total,
        '[' || coalesce(string_agg(json, ',' order by position) filter (where ${isOnPage}), '') || ']' as json,
        max(key::text) filter (where position = ${limit ?? null}::int) as last_key,
        max(id) filter (where position = ${limit ?? null}::int) as last_id,
        count(*) > ${limit ?? null}::int as has_more
      from page, lateral (select row_to_json(task)::text as json from (select ${columns}) task) as text`.catch(
      refuseArguments,
    )
    const { last_key, last_id, has_more, ...content } = page!
    if (!has_more) return content
    return { ...content, next: writeCursor({ key: last_key!, id: last_id! }, owner, request) }
  }

  /** How many tasks there are on all pages. Of a list without a filter the number is kept. */
  function totalOf(owner: string, filter: ListRequest['filter'], conditions: Fragment): Fragment {
    const { status, priority, tags, words, dueFrom, dueTo, overdue } = filter
    const isEverything =
      status === 'all' &&
      [priority, dueFrom, dueTo, overdue, ...tags, ...words].every((wanted) => wanted === undefined)
    return isEverything
      ? fragment`coalesce((select task_count from task_lists where user_id = ${owner}), 0)`
      : fragment`(select count(*) from tasks where ${conditions})`
  }
}

type Page = {
  counter: number
  total: number
  json: string
  last_key: string | null
  last_id: number | null
  has_more: boolean | null
}

function unlessKnown(known: string | undefined, page: TaskPage): TaskList {
  const { tag } = page
  return isKnown(known, tag) ? { state: 'unchanged', tag } : { state: 'changed', ...page }
}

/** A zone that this program knows and PostgreSQL does not, or a cursor that somebody made up. */
function refuseArguments(error: unknown): never {
  if (!(error instanceof StatementFailed)) throw error
  if (error.sqlState === '22023')
    refuse('tz', 'must be the name of a time zone, such as Europe/Paris')
  if (error.sqlState.startsWith('22'))
    refuse('cursor', 'must be one from the Link header of this very query')
  throw error
}
