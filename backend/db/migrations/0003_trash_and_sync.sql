alter table tasks
  -- In the trash since then.
  add column deleted_at timestamptz,
  -- The list's counter when the task was created, and when it last came out of the trash.
  add column created_change bigint not null default 0,
  add column restored_change bigint not null default 0,
  -- RFC 3339 has four digits for the year; a zone can push the first and the last day out of them.
  add constraint due_at_has_a_year check (due_at >= '0001-01-01T00:00Z' and due_at < '10000-01-01T00:00Z');

-- Changes up to this one may have been forgotten: see deleted_tasks and the trash.
alter table task_lists add column purged_through bigint not null default 0;

drop index tasks_of_user;
create index tasks_of_user on tasks (user_id, created_at, id) where deleted_at is null;
create index trash_of_user on tasks (user_id, deleted_at, id) where deleted_at is not null;
create index trash_by_age on tasks (deleted_at) where deleted_at is not null;

-- What is left of tasks that were deleted for good, for those who have not heard of it.
create table deleted_tasks (
  id bigint primary key,
  user_id text not null,
  change bigint not null,
  deleted_at timestamptz not null
);
create index deleted_tasks_by_change on deleted_tasks (user_id, change);
create index deleted_tasks_by_age on deleted_tasks (deleted_at);

-- Admissions to the event stream, for browsers, which cannot send a header with it.
create table event_tickets (
  hash text primary key,
  user_id text not null,
  token_expires_at timestamptz not null,
  expires_at timestamptz not null
);
create index event_tickets_by_age on event_tickets (expires_at);
