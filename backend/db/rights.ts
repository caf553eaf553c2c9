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
    with needed (kind, name, place, right_to, is_given) as (
      select 'schema ', 'todo_api', 0, 'usage', has_schema_privilege('todo_api', 'usage')
      union all
      select '', 'todo_api.' || relname, place, right_to, has_table_privilege(pg_class.oid, right_to)
      from pg_class, (values (1, 'select'), (2, 'insert'), (3, 'update'), (4, 'delete')) as every (place, right_to)
      where relnamespace = to_regnamespace('todo_api') and relname in (
          'deleted_tasks', 'epoch', 'event_tickets', 'idempotency_keys', 'personal_keys', 'reminders',
          'schema_migrations', 'task_lists', 'tasks'
        )
        and (place = 1 or relname not in ('epoch', 'schema_migrations'))
      union all
      -- Everybody may call functions, unless default privileges say otherwise. Triggers ask for no right.
      select 'function ', 'todo_api.' || proname, 0, 'execute', has_function_privilege(oid, 'execute')
      from pg_proc
      where pronamespace = to_regnamespace('todo_api') and proname in (
        'due_fault', 'fire_reminders', 'first_instant', 'next_by_day', 'next_by_month', 'next_date',
        'next_occurrence', 'next_rule', 'priority_of', 'starting_rule', 'step_of', 'take_step', 'today_in',
        'weight_of', 'zone_name'
      )
    ), missing as (
      select kind, name, string_agg(right_to, ', ' order by place) as rights
      from needed where not is_given group by kind, name
    )
    select
      quote_ident(current_user) as role, rights, kind || string_agg(name, ', ' order by name) as objects
    from missing group by kind, rights order by kind desc, min(name)`
  if (missing.length === 0) return
  const grants = missing.map(
    ({ role, rights, objects }) => `grant ${rights} on ${objects} to ${role};`,
  )
  throw new DatabaseUnusable(
    `the role ${missing[0]!.role} lacks rights. Let the owner of the schema and its tables run: ${grants.join(' ')}`,
  )
}
