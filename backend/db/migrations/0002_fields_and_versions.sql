-- What each user's tasks have in common. Every write to one of them counts `counter` up and keeps
-- this row locked until it is committed, so that the order of the counter is the order of commits.
create table task_lists (
  user_id text primary key,
  counter bigint not null,
  task_count integer not null
);

create type task_priority as enum ('none', 'low', 'medium', 'high');

-- The instant of a local time in a zone. One that does not exist (clocks go forward) moves forward,
-- which is what PostgreSQL does; of one that occurs twice (clocks go back) PostgreSQL takes the
-- second, and this the first: the one at the offset that was in force a day before.
create function first_instant(local timestamp, zone text) returns timestamptz
language sql immutable strict parallel safe
return (
  with later as (
    select local at time zone zone as instant
  ), earlier as (
    select (
      local - (((instant - interval '1 day') at time zone zone) - ((instant - interval '1 day') at time zone 'UTC'))
    ) at time zone 'UTC' as instant from later
  )
  select case
    when earlier.instant at time zone zone = local then least(earlier.instant, later.instant)
    else later.instant
  end
  from earlier, later
);

alter table tasks
  add column version bigint not null default 1,
  -- The list's counter at this task's last change.
  add column change bigint not null default 0,
  add column priority task_priority not null default 'none',
  add column tags text[] not null default '{}',
  add column due_date date,
  add column due_time time,
  add column due_timezone text,
  add column due_at timestamptz generated always as (first_instant(due_date + due_time, due_timezone)) stored,
  add column completed_at timestamptz,
  add constraint due_time_needs_due_date check (due_time is null or due_date is not null),
  add constraint due_timezone_needs_due_date check (due_timezone is null or due_date is not null);

update tasks set
  change = ordered.position,
  completed_at = case when completed then updated_at end
from (
  select id, row_number() over (partition by user_id order by created_at, id) as position from tasks
) ordered
where ordered.id = tasks.id;

insert into task_lists (user_id, counter, task_count)
select user_id, count(*), count(*) from tasks group by user_id;

-- A user's changes in their order.
create index tasks_by_change on tasks (user_id, change);

-- The answers to requests that carried an Idempotency-Key.
create table idempotency_keys (
  user_id text not null,
  key text not null,
  -- Tells whether the key comes with the same request again.
  request text not null,
  status smallint not null,
  task_id bigint not null,
  version bigint,
  body text,
  created_at timestamptz not null default now(),
  primary key (user_id, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);
