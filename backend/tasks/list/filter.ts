import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'
import { arrayOf } from '../columns.ts'
import type { ListRequest } from './request.ts'
import { patternsOf } from './search.ts'

/** Whether all of an owner's tasks are asked for. */
export function isEverything(filter: ListRequest['filter']): boolean {
  const { status, priority, tags, words, dueFrom, dueTo, overdue } = filter
  return (
    status === 'all' &&
    [priority, dueFrom, dueTo, overdue, ...tags, ...words].every((wanted) => wanted === undefined)
  )
}

/**
 * Which of an owner's tasks are asked for. Whatever it is, the text is one of two: each text is a
 * prepared statement of its own on every connection.
 */
export function conditionsOf(
  database: Pick<Database, 'fragment'>,
  owner: string,
  filter: ListRequest['filter'],
): Fragment {
  const { fragment } = database
  const isOwn = fragment`user_id = ${owner} and deleted_at is null`
  if (isEverything(filter)) return isOwn
  const { status, priority = null, tags, words, timeZone } = filter
  const { dueFrom = null, dueTo = null, overdue = null } = filter
  // As text, like null: the driver tells statements apart by the types of their values, too.
  const completed = status === 'all' ? null : String(status === 'completed')
  const late = overdue === null ? null : String(overdue)
  // A task due at an instant is due on that day in the reader's zone; any other on its date.
  const dueDay = fragment`coalesce((due_at at time zone todo_api.zone_name(${timeZone}))::date, due_date)`
  // A day is over at its end, a floating time when the reader's clock shows it.
  const dueInstant = fragment`
    coalesce(due_at, (due_date + coalesce(due_time, time '24:00')) at time zone todo_api.zone_name(${timeZone}))`
  const isOverdue = fragment`(not completed and coalesce(${dueInstant} < now(), false))`
  // A word has no white space in it, so that none is found across the line's end.
  const text = fragment`replace(replace(concat_ws(chr(10), title, description), 'ß', 'ss'), 'ẞ', 'ss')`
  const patterns = [...new Set(words.flatMap(patternsOf))]
  return fragment`${isOwn}
    and (${completed}::text is null or completed = ${completed}::text::boolean)
    and (${priority}::text is null or priority::text = ${priority}::text)
    and (${String(tags.length === 0)}::text = 'true' or tags @> ${arrayOf(database, tags)})
    and (${dueFrom}::text is null or ${dueDay} >= ${dueFrom}::text::date)
    and (${dueTo}::text is null or ${dueDay} <= ${dueTo}::text::date)
    and (${late}::text is null or ${isOverdue} = ${late}::text::boolean)
    and (${String(patterns.length === 0)}::text = 'true' or ${text} ~ all (${arrayOf(database, patterns)}))`
}
