-- Splits the tables into eight partitions each, by user. To be run once, by the role that owns them:
--
--   psql "$DATABASE_URL_UNPOOLED" --single-transaction --set ON_ERROR_STOP=1 --file docs/partition.sql
--
-- Servers may be at work: their requests wait until it is done, or get 503. docs/operations.md says how
-- long that is, and what must not be running.
do $$
declare
  name text;
  numbers text;
  key_name text;
  key text;
  indexes text[];
  triggers text[];
  statement text;
  columns text;
  granted record;
begin
  foreach name in array array['idempotency_keys', 'event_tickets', 'tasks', 'deleted_tasks', 'task_lists', 'reminders'] loop
    execute format('lock table todo_api.%I in access exclusive mode', name);
  end loop;

  foreach name in array array['idempotency_keys', 'event_tickets', 'tasks', 'deleted_tasks', 'task_lists', 'reminders'] loop
    select conname, pg_get_constraintdef(oid) into key_name, key
    from pg_constraint where conrelid = format('todo_api.%I', name)::regclass and contype = 'p';
    -- Definitions name the table as it is called now, and as the new one will be.
    select array_agg(pg_get_indexdef(indexrelid)) into indexes
    from pg_index where indrelid = format('todo_api.%I', name)::regclass and not indisprimary;
    select array_agg(pg_get_triggerdef(oid)) into triggers
    from pg_trigger where tgrelid = format('todo_api.%I', name)::regclass and not tgisinternal;
    select string_agg(quote_ident(attname), ', ') into columns
    from pg_attribute
    where attrelid = format('todo_api.%I', name)::regclass and attnum > 0 and not attisdropped and attgenerated = '';

    execute format('alter table todo_api.%I rename to %I', name, name || '_before');
    execute format(
      'create table todo_api.%I (like todo_api.%I including all excluding indexes excluding statistics) partition by hash (user_id)',
      name, name || '_before'
    );
    for remainder in 0..7 loop
      execute format(
        'create table todo_api.%I partition of todo_api.%I for values with (modulus 8, remainder %s)',
        name || '_' || remainder, name, remainder
      );
    end loop;
    execute format(
      'insert into todo_api.%I (%s) overriding system value select %s from todo_api.%I',
      name, columns, columns, name || '_before'
    );
    if name = 'tasks' then
      numbers := pg_get_serial_sequence('todo_api.tasks_before', 'id');
      execute format(
        'select setval(pg_get_serial_sequence(%L, %L), last_value, is_called) from %s', 'todo_api.tasks', 'id', numbers
      );
    end if;
    for granted in
      select privilege_type as right, case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role
      from pg_class, aclexplode(relacl)
      where pg_class.oid = format('todo_api.%I', name || '_before')::regclass and grantee <> relowner
    loop
      execute format('grant %s on todo_api.%I to %s', granted.right, name, granted.role);
    end loop;
    -- Fails if something depends on it, as the views for the version before do.
    execute format('drop table todo_api.%I', name || '_before');
    execute format('alter table todo_api.%I add constraint %I %s', name, key_name, key);
    foreach statement in array coalesce(indexes, '{}') || coalesce(triggers, '{}') loop
      execute statement;
    end loop;
    execute format('analyze todo_api.%I', name);
  end loop;
end
$$;
