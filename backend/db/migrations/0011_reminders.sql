-- Reminders as their owner set them: `[{"minutes_before": 30}, {"at": "2026-03-01T08:00:00.000Z"}]`.
alter table tasks add column reminders jsonb not null default '[]';

-- When a task's reminders fall due. A row waits until it is told of; then it is an event of its list and
-- has a number of the list's counter.
create table reminders (
  user_id text not null,
  task_id bigint not null,
  fires_at timestamptz not null,
  change bigint,
  fired_at timestamptz,
  primary key (user_id, task_id, fires_at)
);
create index reminders_waiting on reminders (user_id, fires_at) where change is null;
create index reminders_by_change on reminders (user_id, change) where change is not null;
create index reminders_by_age on reminders (coalesce(fired_at, fires_at));

-- Keeps the waiting rows of a task what its reminders, its instant and its state say, whichever program writes it: a
-- server of the version before knows nothing of reminders, and its role may lack rights on them. What is
-- past when it is set does not wait. Rows are locked after the task and its list, for what a statement
-- triggers runs at its end.
create function schedule_reminders() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off -- a plan that was made while the table was small would read all of it for each row
as $$
declare
  task constant todo_api.tasks := case when tg_op = 'DELETE' then old else new end;
  instants timestamptz[] := '{}';
begin
  if tg_op = 'UPDATE' and (new.reminders, new.due_at, new.completed, new.deleted_at is null)
    is not distinct from (old.reminders, old.due_at, old.completed, old.deleted_at is null)
  then return null; end if;
  if tg_op <> 'DELETE' and not task.completed and task.deleted_at is null then
    select coalesce(array_agg(distinct instant), '{}') into instants
    from (
      select coalesce(
        (reminder ->> 'at')::timestamptz,
        task.due_at - make_interval(mins => (reminder ->> 'minutes_before')::int)
      ) as instant
      from jsonb_array_elements(task.reminders) as reminder
    ) as set_by_owner
    where instant is not null;
  end if;
  delete from todo_api.reminders
  where user_id = task.user_id and task_id = task.id
    and (tg_op = 'DELETE' or change is null and fires_at <> all (instants));
  insert into todo_api.reminders (user_id, task_id, fires_at)
  select task.user_id, task.id, instant from unnest(instants) as instant where instant > clock_timestamp()
  on conflict do nothing;
  return null;
end
$$;

-- A task without reminders pays for these conditions alone, which PostgreSQL reads anew in each statement: the
-- longer they are, the more they cost.
create trigger schedule_reminders after insert on tasks
for each row when (new.reminders <> '[]') execute function schedule_reminders();
create trigger reschedule_reminders after update on tasks
for each row when (new.reminders <> '[]' or old.reminders <> '[]') execute function schedule_reminders();
create trigger forget_reminders after delete on tasks
for each row when (old.reminders <> '[]') execute function schedule_reminders();

-- Tells of those reminders of these users that are due: each gets a number of its list's counter. Gives the
-- users of whom any was due, and how many were told. A minute after its time a reminder is late: of several
-- late ones of a task only the last is told of, and none that is late by more than a day.
--
-- Lists are locked first, in their order, and what is due is looked for only then: a statement in here sees
-- what was committed while the one before it waited. A write to a task, and so to its reminders, holds its
-- list. So nothing is told twice, and nothing of a task that has just been moved or completed. Each user has
-- the same share of the tasks at once, so that nobody waits for what others have due. Of several users none waits
-- for the lock of another: those whose lists are locked are given with null, to be asked for alone.
--
-- The plans may be older than what is in the table by thousands of rows, and then only look-ups by index are
-- good ones: a scan of a table that was believed to be empty took seconds.
create function fire_reminders(owners text[], tasks_at_once int) returns table (owner text, fired bigint)
language plpgsql
set lock_timeout = '100ms'
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  due_owners text[];
  locked text[];
  present timestamptz;
begin
  select array_agg(user_id) into due_owners
  from todo_api.task_lists
  where user_id = any (owners) and (
    select true from todo_api.reminders
    where reminders.user_id = task_lists.user_id and change is null and fires_at <= clock_timestamp()
    order by fires_at limit 1
  );
  if cardinality(owners) > 1 then
    select array_agg(user_id) into locked
    from (
      select user_id from todo_api.task_lists where user_id = any (due_owners)
      order by user_id for update skip locked
    ) as lists;
  else
    select array_agg(user_id) into locked
    from (select user_id from todo_api.task_lists where user_id = any (due_owners) for update) as lists;
  end if;
  present := clock_timestamp();

  return query
  with due as (
    select
      user_id, task_id, fires_at,
      fires_at >= present - interval '1 minute'
      or fires_at >= present - interval '24 hours'
        and fires_at = max(fires_at) filter (where fires_at < present - interval '1 minute')
          over (partition by user_id, task_id) as is_told
    from
      (
        select distinct user_id, task_id
        from unnest(locked) as holder (user_id), lateral (
          select task_id from todo_api.reminders
          where reminders.user_id = holder.user_id and change is null and fires_at <= present
          order by fires_at limit greatest(tasks_at_once / cardinality(locked), 1)
        ) as earliest
      ) as task,
      -- By the primary key: with all its conditions in here, PostgreSQL read what waits once for each task.
      lateral (
        select fires_at, change from todo_api.reminders
        where reminders.user_id = task.user_id and reminders.task_id = task.task_id
        offset 0
      ) as reminder
    where change is null and fires_at <= present
  ), numbered as (
    select
      user_id, task_id, fires_at,
      row_number() over (partition by user_id order by fires_at, task_id) as number,
      count(*) over (partition by user_id) as numbers
    from due where is_told
  ), list as (
    update todo_api.task_lists set counter = counter + numbers
    from (select distinct user_id, numbers from numbered) as counted
    where task_lists.user_id = counted.user_id
    returning task_lists.user_id, counter, numbers
  ), told as (
    update todo_api.reminders set change = with_change.change, fired_at = present
    from (
      select user_id, task_id, fires_at, counter - list.numbers + number as change
      from numbered join list using (user_id)
      offset 0 -- or all reminders of a list were read for each of them
    ) as with_change
    where reminders.user_id = with_change.user_id and reminders.task_id = with_change.task_id
      and reminders.fires_at = with_change.fires_at
  ), dropped as (
    delete from todo_api.reminders using due
    where reminders.user_id = due.user_id and reminders.task_id = due.task_id
      and reminders.fires_at = due.fires_at and not is_told
  )
  select user_id, count(*) filter (where is_told) from due group by user_id
  union all
  select user_id, null from unnest(due_owners) as held (user_id) where user_id <> all (coalesce(locked, '{}'));
end
$$;
