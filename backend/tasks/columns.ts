import type { Database } from '../db/pool.ts'
import type { Fragment } from '../db/sql.ts'

/** Where PostgreSQL tells whose tasks have changed. */
export const taskChannel = 'task_changes'

/** The columns that a client sees, under their names in the API. PostgreSQL writes the instants. */
export function taskColumns({ fragment }: Pick<Database, 'fragment'>): Fragment {
  const instant = fragment`'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'`
  return fragment`
    id, title, description, completed, priority, tags,
    due_date, to_char(due_time, 'HH24:MI') as due_time, due_timezone,
    to_char(due_at at time zone 'UTC', ${instant}) as due_at,
    recurrence, recurrence_from,
    coalesce(series_id, case when recurrence is not null or next_task_id is not null then id end) as series_id,
    occurrence_date, next_task_id,
    reminders,
    to_char(completed_at at time zone 'UTC', ${instant}) as completed_at,
    to_char(created_at at time zone 'UTC', ${instant}) as created_at,
    to_char(updated_at at time zone 'UTC', ${instant}) as updated_at,
    version`
}

/** An array of texts. The driver would have to ask PostgreSQL for the types of its own. */
export function arrayOf({ fragment }: Pick<Database, 'fragment'>, texts: string[]): Fragment {
  return fragment`array(select json_array_elements_text(${JSON.stringify(texts)}::text::json))`
}
