import type { Postgres } from '../tests/support/postgres.ts'

/** All that the database holds of a user, as one text that tells every byte of it. */
export async function rowsOf(admin: Postgres['admin'], user: string): Promise<string> {
  const rows = await admin`
    select 'task' as kind, tasks::text as row from todo_api.tasks where user_id = ${user}
    union all select 'list', task_lists::text from todo_api.task_lists where user_id = ${user}
    union all select 'key', idempotency_keys::text from todo_api.idempotency_keys where user_id = ${user}
    union all select 'deleted', deleted_tasks::text from todo_api.deleted_tasks where user_id = ${user}
    order by kind, row`
  return JSON.stringify(rows)
}
