/**
 * Whether `record`, of pg_class, is the record of migrations of a version that named no schema, next to its
 * tables: others keep such a record, too, and have tables of the same names.
 */
export const isOlderRecord = `
  record.relname = 'schema_migrations' and record.relkind = 'r' and record.relpersistence <> 't'
  and array(
    select attname::text from pg_attribute where attrelid = record.oid and not attisdropped
  ) @> array['applied_at', 'name']
  and exists (
    select from pg_class as tasks
      join pg_index on indrelid = tasks.oid and indisprimary
      join pg_attribute on attrelid = tasks.oid and not attisdropped
    where relname = 'tasks' and relkind = 'r' and relnamespace = record.relnamespace
      and attname in ('user_id', 'version', 'change')
    having count(*) = 3
  )`

/**
 * SQL that makes our schema, todo_api, and moves our tables into it from wherever the previous version,
 * which named no schema, made them: the search path leads there. Other people's tables of the same names
 * stay as they are. It must run in a transaction, under the lock of those that migrate.
 *
 * Servers of the previous version go on: under the old names there are views through which they write, with
 * the column `ctid`, which their purge uses. The type `task_priority` stays where it is, because a type has
 * only one name. No statement names it any more, so a later version can move it.
 */
export const ownSchema = `
do $$
declare
  former record;
  applied text[] := '{}';
  ours record;
  granted record;
begin
  if exists (
    select from pg_class
    where relname = 'schema_migrations' and relnamespace = to_regnamespace('todo_api')
  ) then return; end if;

  select pg_namespace.oid as namespace, nspname as schema, pg_get_userbyid(relowner) as owner into former
  from pg_class as record join pg_namespace on pg_namespace.oid = relnamespace
  where record.oid = to_regclass('schema_migrations') and ${isOlderRecord};
  if not found then
    if to_regnamespace('todo_api') is null then create schema todo_api; end if;
    return;
  end if;
  execute format('select array_agg(name::text) from %I.schema_migrations', former.schema) into applied;

  if to_regnamespace('todo_api') is null then
    execute format('create schema todo_api authorization %I', former.owner);
  end if;
  -- Each is locked in the order in which most statements lock them.
  for ours in
    select pg_class.oid, relname as name, relowner as owner, relacl as rights, extra
    from (values
      (1, '0002_fields_and_versions', 'idempotency_keys', 'ctid, '),
      (2, '0003_trash_and_sync', 'event_tickets', 'ctid, '),
      (3, '0001_tasks', 'tasks', ''),
      (4, '0003_trash_and_sync', 'deleted_tasks', ''),
      (5, '0002_fields_and_versions', 'task_lists', ''),
      (6, '0005_epoch', 'epoch', ''),
      (7, '0001_tasks', 'schema_migrations', '')
    ) as known (place, migration, name, extra)
      join pg_class on relname = name and relkind = 'r' and relnamespace = former.namespace
    where migration = any (applied)
    order by place
  loop
    execute format('alter table %I.%I set schema todo_api', former.schema, ours.name);
    execute format('create view %I.%I as select %s* from todo_api.%I', former.schema, ours.name, ours.extra, ours.name);
    execute format('alter view %I.%I owner to %I', former.schema, ours.name, pg_get_userbyid(ours.owner));
    -- Whoever may use the table, or columns of it, may use it in its new place, and the view: nobody else, whatever
    -- default privileges say.
    for granted in
      select distinct case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role
      from pg_class, aclexplode(relacl)
      where pg_class.oid = format('%I.%I', former.schema, ours.name)::regclass and grantee <> ours.owner
    loop
      execute format('revoke all on %I.%I from %s', former.schema, ours.name, granted.role);
    end loop;
    for granted in
      select
        privilege_type || coalesce(' (' || quote_ident(attname) || ')', '') as right,
        case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role,
        case when is_grantable then 'with grant option' else '' end as option
      from (
        select null as attname, ours.rights union all
        select attname, attacl from pg_attribute where attrelid = ours.oid and not attisdropped
      ) as given, aclexplode(rights) where grantee <> ours.owner
    loop
      execute format('grant usage on schema todo_api to %s', granted.role);
      execute format('grant %s on %I.%I to %s %s', granted.right, former.schema, ours.name, granted.role, granted.option);
    end loop;
  end loop;
  for granted in
    select
      privilege_type as right, case defaclobjtype when 'r' then 'tables' else 'functions' end as objects,
      case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role,
      case when is_grantable then 'with grant option' else '' end as option
    from pg_default_acl, aclexplode(defaclacl)
    where defaclobjtype in ('r', 'f') and defaclrole = to_regrole(quote_ident(current_user))
      and defaclnamespace = former.namespace
      -- A role that may not delete tasks is no server's, and gets no rights to the tables that are to come.
      and has_table_privilege(
        case grantee when 0 then 'public' else pg_get_userbyid(grantee) end, 'todo_api.tasks', 'delete'
      )
  loop
    execute format('alter default privileges in schema todo_api grant %s on %s to %s %s', granted.right, granted.objects, granted.role, granted.option);
  end loop;
  if '0002_fields_and_versions' = any (applied) then
    execute format('alter function %I.first_instant(timestamp, text) set schema todo_api', former.schema);
  end if;
  if '0006_zones_with_summer_time' = any (applied) then
    execute format('alter function %I.zone_name(text) set schema todo_api', former.schema);
  end if;
end $$`
