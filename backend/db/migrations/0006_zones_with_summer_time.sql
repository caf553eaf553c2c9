-- PostgreSQL takes these names for abbreviations, which have no summer time, before it looks for a
-- zone; and a role may give abbreviations another meaning. Here they are the zones that the IANA
-- database links them to. What a user wrote stays in the row.
create function zone_name(zone text) returns text
language sql immutable strict parallel safe
return case upper(zone)
  when 'CET' then 'Europe/Brussels'
  when 'MET' then 'Europe/Brussels'
  when 'EET' then 'Europe/Athens'
  when 'WET' then 'Europe/Lisbon'
  when 'EST' then 'America/Panama'
  when 'MST' then 'America/Phoenix'
  when 'HST' then 'Pacific/Honolulu'
  when 'GMT' then 'Etc/UTC'
  when 'UCT' then 'Etc/UTC'
  when 'UTC' then 'Etc/UTC'
  when 'ZULU' then 'Etc/UTC'
  else zone
end;

-- As in 0002, by the zone's name.
create or replace function first_instant(local timestamp, zone text) returns timestamptz
language sql immutable strict parallel safe
return (
  with place as (
    select zone_name(zone) as name
  ), later as (
    select name, local at time zone name as instant from place
  ), earlier as (
    select (
      local - (((instant - interval '1 day') at time zone name) - ((instant - interval '1 day') at time zone 'UTC'))
    ) at time zone 'UTC' as instant from later
  )
  select case
    when earlier.instant at time zone name = local then least(earlier.instant, later.instant)
    else later.instant
  end
  from earlier, later
);

-- Nobody may count a list up between the look at it and the change.
lock table task_lists, tasks in share row exclusive mode;

-- Tasks whose instant moves are changed, as by their owner: whoever follows the list must hear of it.
with moved as (
  select
    user_id, id,
    row_number() over (partition by user_id order by id) as position,
    count(*) over (partition by user_id) as together
  from tasks
  where zone_name(due_timezone) <> due_timezone
    and due_at is distinct from first_instant(due_date + due_time, due_timezone)
), list as (
  update task_lists set counter = counter + together
  from (select distinct user_id, together from moved) as counted
  where task_lists.user_id = counted.user_id
  returning task_lists.user_id, counter
)
update tasks set
  due_timezone = due_timezone, -- works the instant out again
  version = version + 1,
  change = list.counter - together + position
from moved join list using (user_id)
where tasks.user_id = moved.user_id and tasks.id = moved.id;
