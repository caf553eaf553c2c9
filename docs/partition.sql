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
  lost text;
begin
  foreach name in array array['idempotency_keys', 'event_tickets', 'tasks', 'deleted_tasks', 'task_lists', 'reminders'] loop
    execute format('lock table todo_api.%I in access exclusive mode', name);
  end loop;

  -- What would go with a table when it is dropped, and is not made anew below.
  select string_agg(distinct what, '; ') into lost
  from pg_class join (values
    ('idempotency_keys'), ('event_tickets'), ('tasks'), ('deleted_tasks'), ('task_lists'), ('reminders')
  ) as ours (name) on relname = ours.name, lateral (
    select pg_describe_object(classid, objid, 0) as what
    from pg_depend left join pg_constraint on classid = 'pg_constraint'::regclass and pg_constraint.oid = objid
    where refclassid = 'pg_class'::regclass and refobjid = pg_class.oid and deptype = 'a'
      and classid not in ('pg_class'::regclass, 'pg_attrdef'::regclass, 'pg_trigger'::regclass)
      and (contype is null or contype in ('f', 'u', 'x'))
    union all select 'row-level security of ' || relname where relrowsecurity
    union all select 'forced row-level security of ' || relname where relforcerowsecurity
    union all select 'the tablespace of ' || stored.relname
      from pg_class as stored left join pg_index on indexrelid = stored.oid
      where (stored.oid = pg_class.oid or indrelid = pg_class.oid) and stored.reltablespace <> 0
    union all select 'the parent of ' || relname from pg_inherits where inhrelid = pg_class.oid
    union all select 'the sequence of column ' || attname || ' of ' || relname
      from pg_attribute where attrelid = pg_class.oid and attidentity <> '' and not attisdropped and (relname, attname) <> ('tasks', 'id')
    union all select 'replica identity of ' || relname where relreplident <> 'd'
    union all select 'the fact that ' || relname || ' is unlogged' where relpersistence = 'u'
    union all select 'the comment on ' || pg_describe_object(classoid, objoid, 0)
      from pg_description
      where objsubid = 0 and (
        objoid = pg_class.oid
        or objoid in (select objid from pg_depend where refobjid = pg_class.oid)
        or objoid in (select indexrelid from pg_index where indrelid = pg_class.oid)
      )
    union all select 'settings of column ' || attname || ' of ' || at.relname
      from pg_attribute join pg_class as at on at.oid = attrelid left join pg_index on indexrelid = at.oid
      where (at.oid = pg_class.oid or indrelid = pg_class.oid) and attnum > 0 and not attisdropped
        and (attstattarget >= 0 or attoptions <> '{}')
    union all select 'settings of the TOAST table of ' || pg_class.relname
      from pg_class as toast where toast.oid = pg_class.reltoastrelid and toast.reloptions <> '{}'
    union all select 'the order of ' || pg_class.relname || ' by ' || indexrelid::regclass
      from pg_index where indrelid = pg_class.oid and indisclustered
    union all select 'settings of ' || relname || ': ' || array_to_string(reloptions, ', ') where reloptions <> '{}'
    union all select 'trigger ' || tgname || ' of ' || relname || ', which is not enabled as usual'
      from pg_trigger where tgrelid = pg_class.oid and tgenabled <> 'O' and not tgisinternal
    union all select 'the ownership of ' || pg_get_userbyid(relowner) || ', as whom this has to be run'
      where relowner <> current_user::regrole
  ) as found
  where relnamespace = 'todo_api'::regnamespace;
  if lost is not null then
    raise exception 'Nothing was changed, because this would be lost: %', lost
      using hint = 'Write down how each was made, remove it, run this again, and make it for the new tables.';
  end if;

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
      for granted in
        select distinct case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role
        from pg_class, aclexplode(relacl)
        where pg_class.oid = pg_get_serial_sequence('todo_api.tasks', 'id')::regclass and grantee <> relowner
      loop
        execute format('revoke all on sequence %s from %s', pg_get_serial_sequence('todo_api.tasks', 'id'), granted.role);
      end loop;
      for granted in
        select
          privilege_type as right,
          case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role,
          case when is_grantable then 'with grant option' else '' end as option
        from pg_class, aclexplode(relacl) where pg_class.oid = numbers::regclass and grantee <> relowner
      loop
        execute format(
          'grant %s on sequence %s to %s %s',
          granted.right, pg_get_serial_sequence('todo_api.tasks', 'id'), granted.role, granted.option
        );
      end loop;
    end if;
    -- Nobody gets by default what was taken from them.
    for granted in
      select distinct relname as made, case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role
      from pg_class, aclexplode(relacl)
      where relnamespace = 'todo_api'::regnamespace and relkind in ('r', 'p') and grantee <> relowner
        and relname = any (array(select name || '_' || remainder from generate_series(0, 7) as remainder) || name)
    loop
      execute format('revoke all on todo_api.%I from %s', granted.made, granted.role);
    end loop;
    for granted in
      select
        privilege_type || coalesce(' (' || quote_ident(attname) || ')', '') as right,
        case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role,
        case when is_grantable then 'with grant option' else '' end as option
      from pg_class, lateral (
        select null as attname, relacl as rights union all
        select attname, attacl from pg_attribute where attrelid = pg_class.oid and not attisdropped
      ) as given, aclexplode(rights)
      where pg_class.oid = format('todo_api.%I', name || '_before')::regclass and grantee <> relowner
    loop
      execute format('grant %s on todo_api.%I to %s %s', granted.right, name, granted.role, granted.option);
      -- Requests do not need them, but programs that lock or copy each table do, such as pg_dump.
      for remainder in 0..7 loop
        execute format(
          'grant %s on todo_api.%I to %s %s', granted.right, name || '_' || remainder, granted.role, granted.option
        );
      end loop;
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
