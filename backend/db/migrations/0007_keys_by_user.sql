-- Every key begins with the user, so that PostgreSQL can split the tables by it (`partition by hash`):
-- a unique constraint of such a table must contain what it is split by. Names stay: statements of the
-- version before know violations by them.
alter table tasks drop constraint tasks_pkey, add constraint tasks_pkey primary key (user_id, id);
alter table deleted_tasks
  drop constraint deleted_tasks_pkey, add constraint deleted_tasks_pkey primary key (user_id, id);
alter table event_tickets
  drop constraint event_tickets_pkey, add constraint event_tickets_pkey primary key (user_id, hash);

-- Whether a task that is not the caller's is somebody's: 403 or 404.
create index tasks_by_id on tasks (id);
-- Whoever comes with a ticket is known by it alone.
create index event_tickets_by_hash on event_tickets (hash);

-- Lists by creation go by id, which is handed out in that order, and so by the primary key.
drop index tasks_of_user;

-- As before. In SQL, PostgreSQL tried to inline it in every insert and update, in vain: 35 µs each. The
-- day before is 24 hours, which is the same in every session's time zone.
create or replace function first_instant(local timestamp, zone text) returns timestamptz
language plpgsql immutable strict parallel safe
as $$
declare
  place constant text := todo_api.zone_name(zone);
  later constant timestamptz := local at time zone place;
  day_before constant timestamptz := later - interval '24 hours';
  offset_then constant interval := (day_before at time zone place) - (day_before at time zone 'UTC');
  earlier constant timestamptz := (local - offset_then) at time zone 'UTC';
begin
  return case when earlier at time zone place = local then least(earlier, later) else later end;
end
$$;
