alter table tasks
  -- A rule (RFC 5545) as recurrence/rule.ts writes it.
  add column recurrence text,
  -- What the next date is counted from: `due` or `completion`.
  add column recurrence_from text not null default 'due',
  -- When the rule began: intervals count from this date, and its day is the one of a monthly rule.
  add column recurrence_start date,
  -- The date on which the rule puts this task, wherever its due date has been moved.
  add column occurrence_date date,
  -- The first task of the series; null on that task itself.
  add column series_id bigint,
  add column previous_task_id bigint,
  add column next_task_id bigint,
  add constraint recurrence_needs_due_date check (recurrence is null or recurrence_start is not null);

-- Whatever happens, one task comes after another.
create unique index tasks_by_previous on tasks (user_id, previous_task_id) where previous_task_id is not null;

-- The first date of a rule by days or weeks that is not before one and not after another.
create function next_by_day(
  weekly boolean, step int, start date, first date, last date, months int[], month_days int[], weekdays text[]
) returns date
language plpgsql immutable parallel safe
as $$
declare
  names constant text[] := '{MO,TU,WE,TH,FR,SA,SU}';
  some_monday constant date := '0001-01-01';
  week_start constant date := start - (start - some_monday) % 7;
  -- A month without this day has its last one instead (RFC 7529, SKIP=BACKWARD).
  furthest constant int := (select max(abs(month_day)) from unnest(month_days) as month_day);
  day date := first;
  excess int;
  month_start date;
  month_length int;
begin
  if not weekly and step % 7 = 0 and names[1 + (start - some_monday) % 7] <> all (weekdays) then return null; end if;
  while day <= last loop
    excess := case when weekly then (day - week_start) / 7 % step else (day - start) % step end;
    month_start := make_date(extract(year from day)::int, extract(month from day)::int, 1);
    month_length := (month_start + interval '1 month')::date - month_start;
    if excess > 0 then
      day := case
        when weekly then week_start + ((day - week_start) / 7 + step - excess) * 7
        else day + step - excess
      end;
    elsif extract(month from day)::int <> all (months) then
      day := month_start + month_length;
    elsif (weekdays is null or names[1 + (day - some_monday) % 7] = any (weekdays)) and (
      month_days is null
      or day - month_start + 1 = any (month_days)
      or day - month_start - month_length = any (month_days)
      or day - month_start + 1 = month_length and furthest > month_length
    ) then
      return day;
    else
      day := day + case when weekly then 1 else step end;
    end if;
  end loop;
  return null;
end
$$;

-- The same of a rule by months or years. A weekday may have a number: 1MO, -1FR.
create function next_by_month(
  yearly boolean, step int, start date, first date, last date, months int[], month_days int[], weekdays text[]
) returns date
language plpgsql immutable parallel safe
as $$
declare
  names constant text[] := '{MO,TU,WE,TH,FR,SA,SU}';
  some_monday constant date := '0001-01-01';
  start_year constant int := extract(year from start);
  start_month constant int := start_year * 12 + extract(month from start)::int - 1;
  month int := extract(year from first)::int * 12 + extract(month from first)::int - 1;
  excess int;
  month_start date;
  month_length int;
  month_day int;
  number int;
  name text;
  day date;
  earliest date;
begin
  loop
    excess := case when yearly then (month / 12 - start_year) % step else (month - start_month) % step end;
    if excess > 0 then
      month := case when yearly then (month / 12 + step - excess) * 12 else month + step - excess end;
    end if;
    month_start := make_date(month / 12, month % 12 + 1, 1);
    if month_start > last then return null; end if;
    if months is null or month % 12 + 1 = any (months) then
      month_length := make_date((month + 1) / 12, (month + 1) % 12 + 1, 1) - month_start;
      foreach month_day in array month_days loop
        -- A month without the day has its last one instead (RFC 7529, SKIP=BACKWARD).
        number := case
          when abs(month_day) > month_length then month_length
          when month_day < 0 then month_length + 1 + month_day
          else month_day
        end;
        day := month_start + number - 1;
        if day >= first and (earliest is null or day < earliest) then
          name := names[1 + (day - some_monday) % 7];
          if weekdays is null or name = any (weekdays)
            or ((number + 6) / 7) || name = any (weekdays)
            or (- (month_length - number + 7) / 7) || name = any (weekdays)
          then earliest := day; end if;
        end if;
      end loop;
      if earliest <= last then return earliest; end if;
    end if;
    month := month + case when yearly then 1 else step end;
  end loop;
end
$$;

-- The first date of a rule that began on `start` which is later than another; null if there is none. How
-- many dates a rule still has (COUNT) is not looked at. The calendar repeats itself after 400 years of
-- 146097 days in all: what has not come by then does not come.
create function next_occurrence(rule text, start date, after date) returns date
language plpgsql immutable strict parallel safe
as $$
declare
  frequency constant text := substring(rule from 'FREQ=([A-Z]+)');
  step constant int := coalesce(substring(rule from 'INTERVAL=([0-9]+)'), '1');
  first constant date := greatest(start, after + 1);
  last constant date := least(substring(rule from 'UNTIL=([0-9]+)')::date, first + 146097, '9999-12-30');
  months int[] := string_to_array(substring(rule from 'BYMONTH=([0-9,]+)'), ',');
  month_days int[] := string_to_array(substring(rule from 'BYMONTHDAY=([-0-9,]+)'), ',');
  weekdays text[] := string_to_array(substring(rule from 'BYDAY=([-0-9A-Z,]+)'), ',');
begin
  if frequency = 'WEEKLY' and weekdays is null then
    weekdays := array[('{MO,TU,WE,TH,FR,SA,SU}'::text[])[extract(isodow from start)::int]];
  end if;
  if frequency in ('DAILY', 'WEEKLY') then
    return todo_api.next_by_day(frequency = 'WEEKLY', step, start, first, last, months, month_days, weekdays);
  end if;
  if month_days is null and weekdays is null then
    month_days := array[extract(day from start)::int];
    if frequency = 'YEARLY' then months := coalesce(months, array[extract(month from start)::int]); end if;
  elsif month_days is null then
    month_days := array(select generate_series(1, 31));
  end if;
  return todo_api.next_by_month(frequency = 'YEARLY', step, start, first, last, months, month_days, weekdays);
end
$$;

-- A rule that has no date at all is refused when it is written.
alter table tasks add constraint recurrence_falls check (
  recurrence is null or recurrence_start is null
  or todo_api.next_occurrence(recurrence, recurrence_start, recurrence_start - 1) is not null
);

-- The rule of the task that comes next: COUNT says how many are left.
create function next_rule(rule text) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  left_now constant int := substring(rule from 'COUNT=([0-9]+)');
begin
  return case when left_now is null then rule else replace(rule, 'COUNT=' || left_now, 'COUNT=' || left_now - 1) end;
end
$$;

-- The date of the task that comes next: of days that were missed none is made up, and today is not missed.
create function next_date(rule text, rule_from text, rule_start date, occurrence date, zone text) returns date
language plpgsql stable
as $$
declare
  today constant date := now() at time zone todo_api.zone_name(coalesce(zone, 'UTC'));
begin
  if substring(rule from 'COUNT=([0-9]+)') = '1' then return null; end if;
  if rule_from = 'completion' then return todo_api.next_occurrence(rule, today, today); end if;
  return todo_api.next_occurrence(rule, rule_start, greatest(occurrence, today - 1));
end
$$;

-- These three act on the task that comes next, for a statement that holds the one before it. Each looks
-- anew at what is there by then: the statement itself would see other rows as they were when it began.

create function add_next(
  owner text, previous bigint, series bigint, new_change bigint, rule text, rule_from text, rule_start date,
  next_date date, title text, description text, priority text, tags text[], due_time time, due_timezone text
) returns bigint
language plpgsql
as $$
declare
  next_id bigint;
begin
  insert into todo_api.tasks (
    user_id, previous_task_id, series_id, change, created_change, recurrence, recurrence_from,
    recurrence_start, occurrence_date, due_date,
    title, description, priority, tags, due_time, due_timezone
  ) values (
    owner, previous, series, new_change, new_change, todo_api.next_rule(rule), rule_from,
    -- One that counts from completion begins anew each time.
    case rule_from when 'completion' then next_date else rule_start end, next_date, next_date,
    title, description, todo_api.priority_of(priority), tags, due_time, due_timezone
  )
  returning id into next_id;
  return next_id;
end
$$;

-- Whether nobody has touched a task since it was made, so that it can go; null if somebody holds it just
-- now, and is not waited for. If nobody has touched it, nobody will until the end of the transaction.
create function is_untouched(owner text, task bigint, waits boolean) returns boolean
language plpgsql
as $$
declare
  untouched boolean;
begin
  if waits then
    perform from todo_api.tasks where user_id = owner and id = task for update;
  else
    perform from todo_api.tasks where user_id = owner and id = task for update skip locked;
  end if;
  if found then
    select version = 1 and not completed and deleted_at is null into untouched
    from todo_api.tasks where user_id = owner and id = task;
    return untouched;
  end if;
  perform from todo_api.tasks where user_id = owner and id = task;
  return case when found then null else false end;
end
$$;

create function withdraw(owner text, task bigint, new_change bigint) returns void
language plpgsql
as $$
begin
  with gone as (
    delete from todo_api.tasks where user_id = owner and id = task returning id, user_id
  )
  insert into todo_api.deleted_tasks (id, user_id, change, deleted_at)
  select id, user_id, new_change, clock_timestamp() from gone;
end
$$;
