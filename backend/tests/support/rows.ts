import { database } from './api.ts'

/** All that the database holds of a user, the trash included, as one text that shows every byte of it. */
export async function everythingOf(user: string): Promise<string> {
  const rows = await database.query`
    select 'task' as kind, tasks::text as row from todo_api.tasks where user_id = ${user}
    union all select 'list', task_lists::text from todo_api.task_lists where user_id = ${user}
    union all select 'key', idempotency_keys::text from todo_api.idempotency_keys where user_id = ${user}
    union all select 'deleted', deleted_tasks::text from todo_api.deleted_tasks where user_id = ${user}
    union all select 'personal key', (id, hash, name, scope, expires_at)::text
      from todo_api.personal_keys where user_id = ${user}
    order by kind, row`
  return JSON.stringify(rows)
}
