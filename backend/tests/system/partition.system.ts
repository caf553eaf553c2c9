import { afterAll, expect, test } from 'bun:test'
import { partition } from '../support/partitions.ts'
import { databaseUrl, owner, startPostgres, superuser } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
afterAll(async () => postgres.close())

test('splitting the tables loses nothing that was set up around them, or is refused', async () => {
  const database = await postgres.createDatabase()
  await (await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))).end()
  const admin = postgres.connectAsSuperuser(database)
  await admin.unsafe(`
    set search_path = todo_api;
    create role looker;
    create role anybody;
    alter default privileges for role ${owner.name} in schema todo_api grant select on tables to anybody;
    alter default privileges for role ${owner.name} in schema todo_api grant select on sequences to anybody;
    alter table tasks force row level security;
    create table parent ();
    alter table deleted_tasks inherit parent;
    alter table deleted_tasks add column number int generated always as identity;
    create table people (id text primary key);
    alter table tasks enable row level security;
    create policy own on tasks to looker using (user_id = current_user);
    create publication changes for table deleted_tasks;
    create rule kept as on delete to deleted_tasks do also nothing;
    create statistics by_day on user_id, due_date from tasks;
    alter table task_lists add constraint of_person foreign key (user_id) references people;
    alter table reminders set (autovacuum_enabled = off);
    alter table event_tickets replica identity full;
    alter table tasks disable trigger forget_reminders;
    alter table reminders add constraint once unique (user_id, fires_at, task_id);
    alter table idempotency_keys set unlogged;
    alter table tasks alter title set statistics 500;
    comment on table tasks is 'Mine';
    comment on index tasks_by_id is 'Mine';
    comment on constraint task_lists_pkey on task_lists is 'Mine';
    comment on trigger forget_reminders on tasks is 'Mine';
    comment on sequence tasks_id_seq is 'Mine';
    comment on column tasks.title is 'Kept';
    alter table tasks set (toast.autovacuum_enabled = off);
    alter table tasks alter user_id set (n_distinct = 500);
    alter index reminders_by_age alter column 1 set statistics 500;
    alter table reminders cluster on reminders_pkey;
    reset search_path`)
  const lost = [
    'constraint of_person on table todo_api.task_lists',
    'constraint once on table todo_api.reminders',
    'forced row-level security of tasks',
    'policy own on table todo_api.tasks',
    'publication of table todo_api.deleted_tasks in publication changes',
    'replica identity of event_tickets',
    'row-level security of tasks',
    'rule kept on table todo_api.deleted_tasks',
    'settings of column coalesce of reminders_by_age',
    'settings of column title of tasks',
    'settings of column user_id of tasks',
    'settings of reminders: autovacuum_enabled=off',
    'settings of the TOAST table of tasks',
    'statistics object todo_api.by_day',
    'the comment on constraint task_lists_pkey on table todo_api.task_lists',
    'the comment on index todo_api.tasks_by_id',
    'the comment on sequence todo_api.tasks_id_seq',
    'the comment on table todo_api.tasks',
    'the comment on trigger forget_reminders on table todo_api.tasks',
    'the fact that idempotency_keys is unlogged',
    'the order of reminders by todo_api.reminders_pkey',
    `the ownership of ${owner.name}, as whom this has to be run`,
    'the parent of deleted_tasks',
    'the sequence of column number of deleted_tasks',
    'trigger forget_reminders of tasks, which is not enabled as usual',
  ]
  await expect(partition(admin, superuser)).rejects.toThrow(
    `Nothing was changed, because this would be lost: ${lost.join('; ')}`,
  )
  const whole = admin`
    select from pg_class where relnamespace = 'todo_api'::regnamespace and relname = 'tasks' and relkind = 'r'`
  expect(await whole).toHaveLength(1)

  await admin.unsafe(`
    set search_path = todo_api;
    alter table tasks disable row level security, no force row level security;
    alter table deleted_tasks no inherit parent, drop column number;
    drop policy own on tasks;
    drop publication changes;
    drop rule kept on deleted_tasks;
    drop statistics by_day;
    alter table task_lists drop constraint of_person;
    alter table reminders reset (autovacuum_enabled);
    alter table event_tickets replica identity default;
    alter table tasks enable trigger forget_reminders;
    alter table reminders drop constraint once;
    alter table idempotency_keys set logged;
    alter table tasks alter title set statistics -1;
    comment on table tasks is null;
    comment on index tasks_by_id is null;
    comment on constraint task_lists_pkey on task_lists is null;
    comment on trigger forget_reminders on tasks is null;
    comment on sequence tasks_id_seq is null;
    alter table tasks reset (toast.autovacuum_enabled);
    alter table tasks alter user_id reset (n_distinct);
    alter index reminders_by_age alter column 1 set statistics -1;
    alter table reminders set without cluster;
    grant select (id, title) on tasks to looker;
    grant select on task_lists to looker with grant option;
    grant select on sequence tasks_id_seq to looker;
    reset search_path`)
  await partition(admin, owner.name)
  const [mayLook] = await admin`
    select
      has_column_privilege('looker', 'todo_api.tasks', 'title', 'select') as at_titles,
      has_column_privilege('looker', 'todo_api.tasks', 'description', 'select') as at_descriptions,
      has_table_privilege('looker', 'todo_api.task_lists', 'select with grant option') as for_others,
      has_table_privilege('looker', 'todo_api.task_lists_7', 'select') as at_partitions,
      has_table_privilege('anybody', 'todo_api.tasks', 'select')
        or has_table_privilege('anybody', 'todo_api.tasks_3', 'select')
        or has_sequence_privilege('anybody', pg_get_serial_sequence('todo_api.tasks', 'id'), 'select') as by_default,
      has_sequence_privilege('looker', pg_get_serial_sequence('todo_api.tasks', 'id'), 'select') as at_numbers`
  expect(mayLook).toEqual({
    at_titles: true,
    at_descriptions: false,
    for_others: true,
    at_partitions: true,
    by_default: false,
    at_numbers: true,
  })
  await admin.end({ timeout: 1 })
})
