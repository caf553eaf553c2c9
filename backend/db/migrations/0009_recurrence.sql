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
  add column next_task_id bigint;

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
-- many dates a rule still has (COUNT) is not looked at. The calendar repeats itself after 400 years, which are
-- 146097 days, and a rule after as many of those as make whole intervals: what has not come by then does not
-- come. Nor does anything come on the last day of the year 9999, part of which is in the year after it in UTC;
-- but a rule may start on it.
create function next_occurrence(rule text, start date, after date) returns date
language plpgsql immutable strict parallel safe
as $$
declare
  frequency constant text := substring(rule from 'FREQ=([A-Z]+)');
  step constant int := coalesce(substring(rule from 'INTERVAL=([0-9]+)'), '1');
  first constant date := greatest(start, after + 1);
  -- In days; 10,000 years are more than there are.
  cycle constant int := case frequency
    when 'DAILY' then least(lcm(146097, step), 3652500)
    when 'WEEKLY' then least(lcm(146097, 7 * step), 3652500)
    when 'MONTHLY' then least(lcm(4800, step), 120000) / 12 * 366
    else least(lcm(400, step), 10000) * 366
  end;
  last constant date := least(
    substring(rule from 'UNTIL=([0-9]+)')::date, first + cycle, greatest(start, '9999-12-30')
  );
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

-- Today where a task is due. PostgreSQL may not know a zone: of a task without a time nobody has asked yet.
create function today_in(zone text) returns date
language plpgsql stable
as $$
begin
  return now() at time zone todo_api.zone_name(coalesce(zone, 'UTC'));
exception when invalid_parameter_value then
  return now() at time zone 'UTC';
end
$$;

-- Which field is at fault if a task cannot be due then: its zone, which PostgreSQL may not know, or its date, if
-- that instant is in no year from 1 to 9999. Null: neither is.
create function due_fault(due timestamp, zone text) returns text
language plpgsql stable strict
as $$
declare
  instant timestamptz;
begin
  instant := todo_api.first_instant(due, zone);
  return case when instant < '0001-01-01T00:00Z' or instant >= '10000-01-01T00:00Z' then 'due_date' end;
exception when invalid_parameter_value then
  return 'due_timezone';
end
$$;

-- The date of the task that comes next: missed days are not made up, and today does not count as missed.
create function next_date(rule text, rule_from text, rule_start date, occurrence date, zone text) returns date
language plpgsql stable
as $$
declare
  today constant date := todo_api.today_in(zone);
begin
  if substring(rule from 'COUNT=([0-9]+)') = '1' then return null; end if;
  if rule_from = 'completion' then return todo_api.next_occurrence(rule, today, today); end if;
  return todo_api.next_occurrence(rule, rule_start, greatest(occurrence, today - 1));
end
$$;

-- The rule of a new task. One that never comes is refused when it is written: to look for its next date again
-- and again would take long.
create function starting_rule(rule text, start date) returns text
language plpgsql stable
as $$
begin
  if rule is null then return null; end if;
  if start is null then
    raise check_violation using constraint = 'recurrence_needs_due_date', message = 'a rule needs a date on which it starts';
  end if;
  if todo_api.next_occurrence(rule, start, start - 1) is null then
    raise check_violation using constraint = 'recurrence_falls', message = 'a rule has no date on or after its start';
  end if;
  return rule;
end
$$;

-- What a write does to the series of a task. (Reminders have their column from a later migration, before
-- anybody calls these functions.)
create type step as (
  -- Of the task after the write. `rule_from` is never null.
  rule text, rule_from text, rule_start date, occurrence date, due_date date,
  -- Whether the rule that starts anew ever comes, which takes a date to start on. Null: none does.
  falls boolean,
  -- When the next task comes, if the write makes it, and what it takes over.
  next_date date, series_id bigint, title text, description text, priority text, tags text[],
  due_time time, due_timezone text, reminders jsonb,
  -- The task that came next, if the write takes it back.
  follower bigint,
  -- The task was to be moved to its next date, and there is none.
  has_ended boolean
);

-- A rule that is sent starts anew at the due date. But most who send a rule that is there already send back the
-- whole task as they read it, its date included: to them nothing happens, and another date moves this task alone.
create function step_of(task record, given jsonb) returns step
language plpgsql stable
as $$
declare
  step todo_api.step;
  sets_date constant boolean := coalesce((given ->> 'sets_due_date')::boolean, false);
  sets_time constant boolean := coalesce((given ->> 'sets_due_time')::boolean, false);
  sets_zone constant boolean := coalesce((given ->> 'sets_due_timezone')::boolean, false);
  sets_rule constant boolean := coalesce(given -> 'series' ? 'recurrence', false);
  given_date constant date := given ->> 'due_date';
  is_done constant boolean := case given ->> 'op'
    when 'toggle' then not task.completed
    else coalesce((given ->> 'completed')::boolean, task.completed)
  end;
  today date;
begin
  step.due_date := case when sets_date then given_date else task.due_date end;
  step.due_timezone := case when sets_zone then given ->> 'due_timezone' else task.due_timezone end;
  step.rule_from := coalesce(given -> 'series' ->> 'recurrence_from', task.recurrence_from);
  step.rule := case
    when sets_rule then given -> 'series' ->> 'recurrence'
    when sets_date and given_date is null then null
    else task.recurrence
  end;
  if step.rule is not null then
    step.rule_start := task.recurrence_start;
    step.occurrence := task.occurrence_date;
    if sets_rule and (step.rule is distinct from task.recurrence or given_date is null) then
      step.falls := todo_api.next_occurrence(step.rule, step.due_date, step.due_date - 1) is not null;
      if not step.falls then return step; end if;
      step.rule_start := step.due_date;
      step.occurrence := step.due_date;
    end if;
  end if;

  if given ->> 'op' = 'skip' then
    -- From completion there is none here: the rule counts from the day that is skipped, or from today.
    today := todo_api.today_in(step.due_timezone);
    step.due_date := case
      when task.completed then null
      when step.rule_from = 'completion' then todo_api.next_date(
        step.rule, 'due', greatest(step.occurrence, today), greatest(step.occurrence, today), step.due_timezone
      )
      else todo_api.next_date(step.rule, 'due', step.rule_start, step.occurrence, step.due_timezone)
    end;
    step.has_ended := step.due_date is null;
    step.occurrence := step.due_date;
    step.rule_start := case step.rule_from when 'completion' then step.due_date else step.rule_start end;
    step.rule := todo_api.next_rule(step.rule);
  elsif task.completed and not is_done then
    step.follower := task.next_task_id;
  elsif is_done and not task.completed and task.next_task_id is null and step.rule is not null then
    step.next_date := todo_api.next_date(
      step.rule, step.rule_from, step.rule_start, step.occurrence, step.due_timezone
    );
    step.series_id := coalesce(task.series_id, task.id);
    step.title := coalesce(given ->> 'title', task.title);
    step.description := case
      when (given ->> 'sets_description')::boolean then given ->> 'description' else task.description
    end;
    step.priority := coalesce(given ->> 'priority', task.priority::text);
    step.tags := case jsonb_typeof(given -> 'tags')
      when 'array' then array(select jsonb_array_elements_text(given -> 'tags')) else task.tags
    end;
    step.due_time := case when sets_time then (given ->> 'due_time')::time else task.due_time end;
    -- What counts back from an instant has a new one, and an instant has been.
    step.reminders := jsonb_path_query_array(
      case jsonb_typeof(given -> 'reminders') when 'array' then given -> 'reminders' else task.reminders end,
      '$[*] ? (exists (@.minutes_before))'
    );
  end if;
  return step;
end
$$;

-- How much the list grows by a step: 1 for a task that comes next, -1 for one that is taken back because
-- nobody has touched it, and nobody will until the end of the transaction. Null: nothing can be done, because
-- somebody holds that task just now (and is not waited for), the series has ended, or its rule never comes.
--
-- This and the next function are for statements that hold the task. Each looks anew at what is there by
-- then: the statement itself would see other rows as they were when it began.
create function weight_of(owner text, step step, waits boolean) returns int
language plpgsql
as $$
declare
  untouched boolean;
begin
  if step.has_ended or not step.falls then return null; end if;
  if step.next_date is not null then return 1; end if;
  if step.follower is null then return 0; end if;
  if waits then
    select updated_at = created_at and not completed and deleted_at is null into untouched
    from todo_api.tasks where user_id = owner and id = step.follower for update;
  else
    select updated_at = created_at and not completed and deleted_at is null into untouched
    from todo_api.tasks where user_id = owner and id = step.follower for update skip locked;
  end if;
  if not found then
    perform from todo_api.tasks where user_id = owner and id = step.follower;
    return case when found then null else 0 end;
  end if;
  return case when untouched then -1 else 0 end;
end
$$;

-- Makes the task that comes next and gives its id, or takes it away. That counts as a change of the list.
create function take_step(owner text, previous bigint, step step, weight int, new_change bigint) returns bigint
language plpgsql
as $$
declare
  next_id bigint;
begin
  if weight = 1 then
    insert into todo_api.tasks (
      user_id, previous_task_id, series_id, change, created_change, recurrence, recurrence_from,
      -- One that counts from completion starts anew each time.
      recurrence_start, occurrence_date, due_date,
      title, description, priority, tags, due_time, due_timezone, reminders
    ) values (
      owner, previous, step.series_id, new_change, new_change, todo_api.next_rule(step.rule), step.rule_from,
      case step.rule_from when 'completion' then step.next_date else step.rule_start end,
      step.next_date, step.next_date,
      step.title, step.description, todo_api.priority_of(step.priority), step.tags, step.due_time, step.due_timezone,
      step.reminders
    )
    returning id into next_id;
  else
    with gone as (
      delete from todo_api.tasks where user_id = owner and id = step.follower returning id, user_id
    )
    insert into todo_api.deleted_tasks (id, user_id, change, deleted_at)
    select id, user_id, new_change, clock_timestamp() from gone;
  end if;
  return next_id;
end
$$;

-- A server of the version before knows nothing of rules, and clears the date alone.
create function end_rule() returns trigger
language plpgsql
as $$
begin
  new.recurrence := null;
  new.recurrence_start := null;
  new.occurrence_date := null;
  return new;
end
$$;
create trigger rule_needs_due_date before update on tasks
for each row when (new.due_date is null and new.recurrence is not null) execute function end_rule();
