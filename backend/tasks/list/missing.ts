import type { Query } from '../../db/sql.ts'

/**
 * Gives a list to users who have none: to a new user, whose first write this is, and to those whose
 * tasks did not come through this program, but by SQL or the restore of one table. Nothing is known of the
 * numbers that such tasks carry, or of what was deleted before: each gets a new number above all existing
 * ones, and clients that follow the changes must start again.
 */
export async function addLists(query: Query, owners: readonly string[]): Promise<void> {
  await query`
    with list as (
      insert into todo_api.task_lists (user_id, counter, task_count, purged_through)
      select owner, last + tasks, live, last + tasks
      from
        json_array_elements_text(${JSON.stringify(owners)}::text::json) as owner,
        lateral (
          select count(*) as tasks, count(*) filter (where deleted_at is null) as live, max(change) as change
          from todo_api.tasks where user_id = owner
        ) as here,
        lateral (select max(change) as change from todo_api.deleted_tasks where user_id = owner) as gone,
        lateral (select max(change) as change from todo_api.reminders where user_id = owner) as told,
        lateral (select coalesce(greatest(here.change, gone.change, told.change), 0) as last) as known
      on conflict (user_id) do nothing
      returning user_id, counter
    )
    update todo_api.tasks set change = list.counter + 1 - place
    from list, lateral (
      select id, row_number() over (order by change desc, id desc) as place
      from todo_api.tasks where user_id = list.user_id
    ) as numbered
    where tasks.user_id = list.user_id and tasks.id = numbered.id`
}
