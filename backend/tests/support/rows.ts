import { database } from './api.ts'

/** All that the database holds of a user, the trash included, as one text that shows every byte of it. */
export async function everythingOf(user: string): Promise<string> {
  const rows = await database.query`
    select 'task' as kind, tasks::text as row from tasks where user_id = ${user}
    union all select 'list', task_lists::text from task_lists where user_id = ${user}
    union all select 'key', idempotency_keys::text from idempotency_keys where user_id = ${user}
    union all select 'deleted', deleted_tasks::text from deleted_tasks where user_id = ${user}
    order by kind, row`
  return JSON.stringify(rows)
}
