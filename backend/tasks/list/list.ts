import { LRUCache } from 'lru-cache'
import { StatementFailed, type Database, type Fragment } from '../../db/pool.ts'
import { ApiError } from '../../errors.ts'
import { anySize, NeedsRoom, unlessTooLarge, type Unsent } from '../../http/answers.ts'
import { isKnown } from '../preconditions.ts'
import {
  sortKeys,
  type ListQuery,
  type SortKey,
  type TaskPriority,
  type TaskStatus,
} from '../schemas.ts'
import { taskColumns } from '../columns.ts'

const mostWords = 20 // each is looked for in every task

/** What a list is asked for, in one spelling. */
type ListRequest = {
  filter: {
    status: TaskStatus
    priority?: TaskPriority
    tags: string[]
    words: string[]
    dueFrom?: string
    dueTo?: string
    overdue?: boolean
    timeZone: string
  }
  sort: { by: SortKey; descending: boolean }
  limit?: number
}

export type TaskList = { state: 'unchanged'; tag: string } | ({ state: 'changed' } & TaskPage)

type TaskPage = {
  tag: string
  /** The JSON array that PostgreSQL wrote, and how many bytes it has in UTF-8. */
  json: string
  bytes: number
  /** How many tasks match the filter, on all pages. */
  total: number
  /** The list's counter at the moment that is shown. */
  counter: number
  /** Where the next page starts. Absent on the last. */
  next?: string
}

const rememberedCharacters = 32 * 1024 * 1024 // twice as many bytes, where a title is not in Latin-1

/** A user's tasks: filtered, sorted, page by page. */
export function createTaskList(database: Pick<Database, 'queryFor' | 'fragment'>) {
  const { queryFor, fragment } = database
  const columns = taskColumns(database)
  /** Under what was asked for: its digest, and the page as it was the last time. */
  const pages = new LRUCache<string, { name: string; page: TaskPage }>({
    maxSize: rememberedCharacters,
    sizeCalculation: ({ page }, asked) => asked.length + page.json.length,
  })

  /**
   * A page that was read before is sent again as long as the list's counter, which every write to it
   * counts up, is what it was then. It is looked up each time, so that no page is ever old.
   *
   * @param known the client's `If-None-Match`
   * @param most how many bytes the page may have
   * @throws NeedsRoom where it has more; ApiError 422 where the cursor is not one of this query, or
   *   PostgreSQL knows no such zone
   */
  return async function list(
    owner: string,
    asked: ListQuery,
    known: string | undefined,
    most = anySize,
  ): Promise<TaskList> {
    const request = readRequest(asked)
    // What is overdue changes by itself, without a change that would be counted.
    if (request.filter.overdue !== undefined) {
      const page = await read(owner, request, asked.cursor, most)
      return unlessKnown(known, { ...page, tag: digest(`${page.total} ${page.json}`) })
    }
    const whole = JSON.stringify([owner, request, asked.cursor])
    const remembered = pages.get(whole)
    const name = remembered?.name ?? digest(whole)
    if (known !== undefined || remembered !== undefined) {
      const [found] = await queryFor(owner)<{ counter: number }>`
        select counter from task_lists where user_id = ${owner}`
      const counter = found?.counter ?? 0
      const tag = `${counter}-${name}`
      if (isKnown(known, tag)) return { state: 'unchanged', tag }
      if (remembered?.page.counter === counter) {
        if (remembered.page.bytes > most) throw new NeedsRoom(remembered.page.bytes)
        return { state: 'changed', ...remembered.page }
      }
    }
    const content = await read(owner, request, asked.cursor, most)
    const page = { ...content, tag: `${content.counter}-${name}` }
    pages.set(whole, { name, page })
    return unlessKnown(known, page)
  }

  async function read(
    owner: string,
    request: ListRequest,
    cursor: string | undefined,
    most: number,
  ): Promise<Omit<TaskPage, 'tag'>> {
    const { filter, sort, limit } = request
    const conditions = conditionsOf(owner, filter)
    const key = keyOf(sort)
    const direction = sort.descending ? fragment`desc` : fragment`asc`
    const order = fragment`${key.expression} ${direction}, id ${direction}`
    const sized = fragment`
      octet_length(json) as bytes, case when octet_length(json) <= ${most}::bigint then json end as json`
    const counter = fragment`coalesce((select counter from task_lists where user_id = ${owner}), 0) as counter`
    if (limit === undefined && cursor === undefined) {
      const [all] = await queryFor(owner)<Unsent<Omit<TaskPage, 'tag'>>>`
        select counter, total, ${sized}
        from (select
          ${counter}, count(*) as total,
          '[' || coalesce(string_agg(row_to_json(task)::text, ','), '') || ']' as json
        from (select ${columns} from tasks where ${conditions} order by ${order}) task
        ) as whole`.catch(refuseArguments)
      return unlessTooLarge(all!)
    }
    const after = cursor === undefined ? undefined : readCursor(cursor, owner, request)
    const isAfter =
      after === undefined
        ? fragment`true`
        : fragment`(${key.expression}, id) ${sort.descending ? fragment`<` : fragment`>`}
            (${after.key}::text::${key.type}, ${after.id}::bigint)`
    const isOnPage = limit === undefined ? fragment`true` : fragment`position <= ${limit}::int`
    const [page] = await queryFor(owner)<Unsent<Page>>`
      with page as (
        select *, ${key.expression} as key, row_number() over (order by ${order}) as position
        from tasks where ${conditions} and ${isAfter}
        order by ${order}
        limit ${limit === undefined ? null : limit + 1}::int
      )
      select counter, total, last_key, last_id, has_more, ${sized}
      from (select
        ${counter}, ${totalOf(owner, filter, conditions)} as total,
        '[' || coalesce(string_agg(json, ',' order by position) filter (where ${isOnPage}), '') || ']' as json,
        max(key::text) filter (where position = ${limit ?? null}::int) as last_key,
        max(id) filter (where position = ${limit ?? null}::int) as last_id,
        count(*) > ${limit ?? null}::int as has_more
      from page, lateral (select row_to_json(task)::text as json from (select ${columns}) task) as text
      ) as whole`.catch(refuseArguments)
    const { last_key, last_id, has_more, ...content } = unlessTooLarge(page!)
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

  function conditionsOf(owner: string, filter: ListRequest['filter']): Fragment {
    const { status, priority, tags, words, dueFrom, dueTo, overdue, timeZone } = filter
    // A task due at an instant is due on that day in the reader's zone; any other on its date.
    const dueDay = fragment`coalesce((due_at at time zone ${timeZone})::date, due_date)`
    // A day is over at its end, a floating time when the reader's clock shows it.
    const dueInstant = fragment`
      coalesce(due_at, (due_date + coalesce(due_time, time '24:00')) at time zone ${timeZone})`
    const isOverdue = fragment`(not completed and coalesce(${dueInstant} < now(), false))`
    const conditions = [
      fragment`user_id = ${owner} and deleted_at is null`,
      ...(status === 'all' ? [] : [fragment`completed = ${status === 'completed'}::boolean`]),
      ...(priority === undefined ? [] : [fragment`priority = ${priority}::task_priority`]),
      ...tags.map((tag) => fragment`${tag} = any (tags)`),
      ...words
        .map(patternOf)
        .map((pattern) => fragment`(title ~ ${pattern} or description ~ ${pattern})`),
      ...(dueFrom === undefined ? [] : [fragment`${dueDay} >= ${dueFrom}::date`]),
      ...(dueTo === undefined ? [] : [fragment`${dueDay} <= ${dueTo}::date`]),
      ...(overdue === undefined ? [] : [overdue ? isOverdue : fragment`not ${isOverdue}`]),
    ]
    return conditions.reduce((all, condition) => fragment`${all} and ${condition}`)
  }

  /** What is sorted by, and its type. Tasks that are never due come last, in both directions. */
  function keyOf({ by, descending }: ListRequest['sort']): {
    expression: Fragment
    type: Fragment
  } {
    const never = descending ? fragment`'-infinity'` : fragment`'infinity'`
    switch (by) {
      case 'created':
        return { expression: fragment`tasks.created_at`, type: fragment`timestamptz` }
      case 'updated':
        return { expression: fragment`tasks.updated_at`, type: fragment`timestamptz` }
      case 'title':
        return { expression: fragment`lower(title)`, type: fragment`text` }
      case 'priority':
        return { expression: fragment`priority`, type: fragment`task_priority` }
      case 'due_date':
        return {
          expression: fragment`coalesce(due_date + coalesce(due_time, time '24:00'), ${never}::timestamp)`,
          type: fragment`timestamp`,
        }
    }
  }
}

type Page = {
  counter: number
  total: number
  json: string
  bytes: number
  last_key: string | null
  last_id: number | null
  has_more: boolean | null
}

/** Brings the spellings that front ends use into one. */
function readRequest(query: ListQuery): ListRequest {
  const { priority, due_from: dueFrom, due_to: dueTo, limit } = query
  const text = query.q ?? query.search ?? ''
  const words = [...new Set(text.split(/\s+/u).filter((word) => word !== ''))]
  if (words.length > mostWords)
    refuse(query.q === undefined ? 'search' : 'q', `must be ${mostWords} different words at most`)
  const { sort = 'created' } = query
  const by = sort.replace(/^-|_at$/g, '')
  return {
    filter: {
      status:
        query.status ??
        (query.completed === undefined
          ? 'all'
          : query.completed === 'true'
            ? 'completed'
            : 'pending'),
      tags: [query.tag ?? []].flat().toSorted(),
      words,
      timeZone: query.tz ?? 'UTC',
      ...(priority !== undefined && { priority }),
      ...(dueFrom !== undefined && { dueFrom }),
      ...(dueTo !== undefined && { dueTo }),
      ...(query.overdue !== undefined && { overdue: query.overdue === 'true' }),
    },
    sort: {
      by: sortKeys.find((key) => key === by) ?? 'created',
      descending: query.order === undefined ? sort.startsWith('-') : query.order === 'desc',
    },
    ...(limit !== undefined && { limit }),
  }
}

/**
 * A regular expression that finds a word however it is capitalized, its accents are composed, or the
 * marks of a letter are ordered: keyboards give them in another order than either normal form.
 * PostgreSQL's own ways to ignore case depend on the locale of the database.
 */
function patternOf(word: string): string {
  const forms = new Set([word, word.normalize('NFC'), word.normalize('NFD')])
  return [...forms]
    .map((form) => Array.from(form.matchAll(letterOrMarks), inAnyForm).join(''))
    .map((pattern) => pattern.replaceAll('[Ss][Ss]', '(?:[Ss][Ss]|[ßẞ])'))
    .join('|')
}

const mostRepetitions = 255 // that a regular expression of PostgreSQL's can ask for
const letterOrMarks = new RegExp(`\\p{M}{2,${mostRepetitions}}|[^]`, 'gu')

function inAnyForm([found]: RegExpMatchArray): string {
  const characters = Array.from(found)
  return characters.length === 1 ? inAnyCase(found) : `[${found}]{${characters.length}}`
}

/** Letters that a change of case makes of one another, beside what the runtime's rules know. */
const families = ['σςΣ', 'iıIİ', 'ßẞ']

function inAnyCase(character: string): string {
  const family = families.find((letters) => letters.includes(character)) ?? ''
  const cases = [character, character.toLowerCase(), character.toUpperCase(), ...Array.from(family)]
  const single = new Set(cases.filter((text) => Array.from(text).length === 1))
  const letter = `[${[...single].toSorted().join('')}]`
  if (family.includes('ß')) return `(?:${letter}|[Ss][Ss])`
  if (single.size > 1) return letter
  return /[\p{L}\p{N}\p{M}]/u.test(character) ? character : `\\${character}`
}

type Position = { key: string; id: number }

/** A place in a sorted list, bound to its owner, filter and sort. The page's size may change. */
function writeCursor(position: Position, owner: string, { filter, sort }: ListRequest): string {
  const text = Buffer.from(JSON.stringify(position)).toString('base64url')
  return `${text}.${digest(JSON.stringify([owner, filter, sort, text]))}`
}

function readCursor(cursor: string, owner: string, { filter, sort }: ListRequest): Position {
  const [text = '', check] = cursor.split('.')
  if (check !== digest(JSON.stringify([owner, filter, sort, text])))
    refuse('cursor', 'must be one from the Link header of this very query')
  const position: Position = JSON.parse(Buffer.from(text, 'base64url').toString())
  return position
}

function unlessKnown(known: string | undefined, page: TaskPage): TaskList {
  const { tag } = page
  return isKnown(known, tag) ? { state: 'unchanged', tag } : { state: 'changed', ...page }
}

function digest(text: string): string {
  return new Bun.CryptoHasher('sha256').update(text).digest('base64url').slice(0, 16)
}

function refuse(field: string, detail: string): never {
  throw new ApiError('validation_failed', { errors: [{ field, detail }] })
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
