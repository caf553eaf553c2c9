import type { Query } from './sql.ts'
import { DatabaseUnusable } from './refusal.ts'

/** Tables of a version that named no schema. Everything is as SQL needs it quoted, for messages. */
type Older = {
  namespace: number
  schema: string
  owner: string
  role: string
  database: string
  isOwn: boolean
  isOnPath: boolean
  /** Grants to whoever moves them, which makes the schema todo_api, and views in the place of the tables. */
  lacking: string | null
}

/**
 * Looks everywhere for tables that a version without a schema of its own left, so that they are either
 * moved or talked about: a start that passed them over would serve empty lists, while older servers go on
 * writing to them. The catalog, which everybody may read, knows them whatever the role's rights are. Copies
 * made by `create table … as` have no primary key and do not count, nor do temporary ones.
 *
 * @throws DatabaseUnusable with what to do if they are there and `ownSchema` could not move them
 */
export async function expectMovable(query: Query): Promise<void> {
  const found = await query<Older>`
    select
      relnamespace as namespace, quote_ident(nspname) as schema,
      quote_ident(pg_get_userbyid(relowner)) as owner, quote_ident(current_user) as role,
      quote_ident(current_database()) as database,
      pg_has_role(relowner, 'usage') as "isOwn", pg_table_is_visible(record.oid) as "isOnPath",
      (
        select string_agg(format('grant %s to %I;', rights, pg_get_userbyid(mover)), ' ')
        from (values
          (
            format('create on database %I', current_database()),
            to_regnamespace('todo_api') is not null or has_database_privilege(mover, current_database(), 'create')
          ),
          (
            format('usage, create on schema %I', nspname),
            has_schema_privilege(mover, relnamespace, 'usage')
              and has_schema_privilege(mover, relnamespace, 'create')
          )
        ) as needed (rights, is_given) where not is_given
      ) as lacking
    from pg_class as record join pg_namespace on pg_namespace.oid = relnamespace, lateral (
      select case when pg_has_role(relowner, 'usage') then oid else relowner end as mover
      from pg_roles where rolname = current_user
    ) as movers
    where relname = 'schema_migrations' and relkind = 'r' and relpersistence <> 't'
      and array(
        select attname::text from pg_attribute
        where attrelid = record.oid and attnum > 0 and not attisdropped order by attname
      ) = array['applied_at', 'name']
      and exists (
        select from pg_class as tasks
          join pg_index on indrelid = tasks.oid and indisprimary
          join pg_attribute on attrelid = tasks.oid and not attisdropped
        where relname = 'tasks' and relkind = 'r' and relnamespace = record.relnamespace
          and attname in ('user_id', 'version', 'change')
        having count(*) = 3
      )
    order by nspname`
  const [older, ...others] = found
  if (older === undefined) return
  if (others.length > 0)
    throw new DatabaseUnusable(
      `older versions left their tables in several schemas, ${found.map(({ schema }) => schema).join(' and ')}, and only one can be served. ` +
        'Rename the table schema_migrations of those that are not to be.',
    )
  const problem = whyNotMovable(older)
  if (problem !== undefined)
    throw new DatabaseUnusable(
      `an older version left its tables in the schema ${older.schema}${problem} ` +
        'Or, if they are not to be served, rename their table schema_migrations.',
    )
  await expectOrdinary(query, older)
  await expectFreeKeys(query, older)
}

function whyNotMovable(older: Older): string | undefined {
  const { schema, owner, role, database, isOwn, isOnPath, lacking } = older
  const belonging = isOwn ? '' : `. They belong to ${owner}, and ${role} may not move them`
  const start = isOwn ? 'Start again.' : `Start one server with the role ${owner}.`
  if (lacking !== null)
    return `${belonging}. To move them, ${isOwn ? role : owner} needs more rights. Let the owner of the database run: ${lacking} ${start}`
  if (!isOwn) return `${belonging}. ${start}`
  if (!isOnPath)
    return `, to which the search path of ${role} does not lead. Run: alter role ${role} in database ${database} set search_path = ${schema}; ${start}`
  return undefined
}

/** The views under the old names would go past row-level security, and the index of an identity is made anew. */
async function expectOrdinary(query: Query, { namespace, schema }: Older): Promise<void> {
  const [found] = await query<{ names: string }>`
    select string_agg(what, ', ' order by what) as names
    from pg_class as ours, lateral (
      select 'row-level security of ' || relname as what where relrowsecurity
      union all select 'replica identity of ' || relname where relreplident = 'i'
    ) as obstacle
    where relnamespace = ${namespace} and relkind = 'r' and relname in (
      'tasks', 'deleted_tasks', 'event_tickets', 'idempotency_keys', 'task_lists', 'epoch', 'schema_migrations'
    )
    having count(*) > 0`
  if (found === undefined) return
  throw new DatabaseUnusable(
    `the tables in the schema ${schema} cannot be moved with all that was set up for them: ${found.names}. ` +
      'Write down how it was made, remove it, and make it for the tables in todo_api once a server has started.',
  )
}

/** Migrations after the move change the primary keys, which a foreign key from elsewhere would forbid. */
async function expectFreeKeys(query: Query, { namespace, schema }: Older): Promise<void> {
  const [dependent] = await query<{ names: string }>`
    select string_agg(distinct pg_describe_object(classid, objid, 0), ', ') as names
    from pg_class as ours
      join pg_constraint as key on conrelid = ours.oid and contype = 'p'
      join pg_depend on deptype = 'n' and (
        refclassid = 'pg_constraint'::regclass and refobjid = key.oid
        or refclassid = 'pg_class'::regclass and refobjid = key.conindid
      )
    where relnamespace = ${namespace} and relname in ('tasks', 'deleted_tasks', 'event_tickets')
    having count(*) > 0`
  if (dependent === undefined) return
  throw new DatabaseUnusable(
    `the primary keys of the tables in the schema ${schema} will begin with user_id, and something depends on them: ${dependent.names}. ` +
      'Drop it, and make it anew once a server has started: a foreign key needs the columns (user_id, id) of todo_api.tasks then.',
  )
}
