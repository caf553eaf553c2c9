-- A priority by its name. The type is where a version before this schema has made it, so no statement can
-- name it: statements call this.
do $$
begin
  execute format(
    'create function priority_of(name text) returns %1$s language sql immutable strict parallel safe return name::%1$s',
    (select format_type(atttypid, null) from pg_attribute
     where attrelid = 'tasks'::regclass and attname = 'priority')
  );
end
$$;
