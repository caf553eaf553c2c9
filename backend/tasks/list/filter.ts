import type { Database, Fragment } from '../../db/pool.ts'
import type { ListRequest } from './request.ts'
import { patternOf } from './search.ts'

/** Which of an owner's tasks are asked for. */
export function conditionsOf(
  { fragment }: Pick<Database, 'fragment'>,
  owner: string,
  filter: ListRequest['filter'],
): Fragment {
  const { status, priority, tags, words, dueFrom, dueTo, overdue, timeZone } = filter
  // A task due at an instant is due on that day in the reader's zone; any other on its date.
  const dueDay = fragment`coalesce((due_at at time zone zone_name(${timeZone}))::date, due_date)`
  // A day is over at its end, a floating time when the reader's clock shows it.
  const dueInstant = fragment`
    coalesce(due_at, (due_date + coalesce(due_time, time '24:00')) at time zone zone_name(${timeZone}))`
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
