import type { Query } from './sql.ts'
import { DatabaseUnusable } from './refusal.ts'

/**
 * A role that does not own our tables needs rights on each of them, and on our functions. If one is missing,
 * PostgreSQL names neither the role nor the right, so they are looked up in the catalog, which everybody may
 * read. Nothing else in the schema matters, such as a copy of a table that somebody made.
 *
 * @throws DatabaseUnusable with the statements that grant what is missing
 */
export async function expectRights(query: Query): Promise<void> {
  const missing = await query<{ role: string; rights: string; objects: string }>`
    with needed (object, place, name, is_given) as (
      select 'schema todo_api', 0, 'usage', has_schema_privilege('todo_api', 'usage')
      union all
      select 'todo_api.' || relname, place, name, has_table_privilege(pg_class.oid, name)
      from pg_class, (values (1, 'select'), (2, 'insert'), (3, 'update'), (4, 'delete')) as every (place, name)
      where relnamespace = to_regnamespace('todo_api') and relname in (
          'deleted_tasks', 'epoch', 'event_tickets', 'idempotency_keys', 'personal_keys', 'reminders',
          'schema_migrations', 'task_lists', 'tasks'
        )
        and (place = 1 or relname not in ('epoch', 'schema_migrations'))
      union all
      -- Everybody may call functions, unless default privileges say otherwise. Triggers ask for no right.
      select 'all functions in schema todo_api', 0, 'execute', bool_and(has_function_privilege(oid, 'execute'))
      from pg_proc where pronamespace = to_regnamespace('todo_api') and prorettype <> 'trigger'::regtype
        and proowner = (
          select relowner from pg_class where relnamespace = to_regnamespace('todo_api') and relname = 'tasks'
        )
    ), missing as (
      select object, string_agg(name, ', ' order by place) as rights
      from needed where not is_given group by object
    )
    select quote_ident(current_user) as role, rights, string_agg(object, ', ' order by object) as objects
    from missing group by rights order by min(object)`
  if (missing.length === 0) return
  const grants = missing.map(
    ({ role, rights, objects }) => `grant ${rights} on ${objects} to ${role};`,
  )
  throw new DatabaseUnusable(
    `the role ${missing[0]!.role} lacks rights. Let the owner of the tables run: ${grants.join(' ')}`,
  )
}
