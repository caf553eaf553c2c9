/**
 * SQL that makes a test database refuse every write to `tasks` that does not count: each task that is
 * changed must get its next version, and a number of its own out of those by which its list's counter
 * went up in the same transaction. That whoever reads by the counter misses nothing rests on it, and
 * no answer shows when it is forgotten. `writeUncounted` (api.ts) goes past it.
 */
export const countingCheck = `
  create unlogged table if not exists counted (
    transaction xid8, user_id text, since bigint not null, primary key (transaction, user_id)
  );

  create or replace function remember_counting() returns trigger language plpgsql as $$
  begin
    -- An insert that finds the list there goes on as an update.
    insert into counted values (pg_current_xact_id(), new.user_id, case when tg_op = 'UPDATE' then old.counter else -1 end)
    on conflict (transaction, user_id) do update set since = excluded.since where counted.since = -1;
    return new;
  end $$;

  -- Before, since a write adds the task that comes next while its statement is still at work.
  create or replace trigger remember_counting before insert or update on todo_api.task_lists
  for each row execute function remember_counting();

  create or replace function refuse_uncounted() returns trigger language plpgsql as $$
  declare
    task todo_api.tasks := case when tg_op = 'DELETE' then old else new end;
    bookkeeping constant text[] := '{version,change,created_change,restored_change}';
    list record;
  begin
    if current_setting('tests.uncounted', true) = 'yes' then return null; end if;
    select counter, purged_through, case when since = -1 then 0 else since end as since into list
    from todo_api.task_lists left join counted on counted.user_id = task_lists.user_id and transaction = pg_current_xact_id()
    where task_lists.user_id = task.user_id;

    if tg_op = 'DELETE' then
      if list.purged_through >= task.change then return null; end if;
      if list.since is null or not exists (
        select from todo_api.deleted_tasks
        where id = task.id and user_id = task.user_id and change <= list.counter
          and (change = old.change or change > list.since)
      ) then
        raise 'task % was deleted, and neither counted and remembered in deleted_tasks nor in purged_through', task.id
        using constraint = 'every_write_to_tasks_counts';
      end if;
      return null;
    end if;

    if list.since is null or new.change <= list.since or new.change > list.counter then
      raise 'task % was written with the number %, and its list counted from % to %',
        task.id, new.change, list.since, list.counter
        using constraint = 'every_write_to_tasks_counts';
    end if;
    if exists (select from todo_api.tasks where user_id = new.user_id and change = new.change and id <> new.id) then
      raise 'task % was written with the number % of another task', task.id, new.change
        using constraint = 'every_write_to_tasks_counts';
    end if;
    if tg_op = 'UPDATE' and to_jsonb(new) - bookkeeping <> to_jsonb(old) - bookkeeping
      and new.version <> old.version + 1 then
      raise 'task % was changed, and its version went from % to %', task.id, old.version, new.version
        using constraint = 'every_write_to_tasks_counts';
    end if;
    return null;
  end $$;

  create or replace trigger refuse_uncounted after insert or update or delete on todo_api.tasks
  for each row execute function refuse_uncounted();
`
