import { isOlderRecord } from './own-schema.ts'
import { DatabaseUnusable } from './refusal.ts'
import { Fragment, type Query } from './sql.ts'

/** Tables of a version that named no schema. Everything is as SQL needs it quoted, for messages. */
type Older = {
  namespace: number
  schema: string
  owner: string
  role: string
  database: string
  isOwn: boolean
  isOnPath: boolean
  /** Statements for what the role that moves them lacks. It makes todo_api, and views in the place of the tables. */
  lacking: string | null
}

const tables = new Fragment(
  [
    `'tasks', 'deleted_tasks', 'event_tickets', 'idempotency_keys', 'task_lists', 'schema_migrations'`,
  ],
  [],
)
const isRecord = new Fragment([isOlderRecord], [])

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
        select string_agg(what, ' ')
        from (
          select format('grant create on database %I to %I;', current_database(), name) as what
          where to_regnamespace('todo_api') is null and not has_database_privilege(mover, current_database(), 'create')
          union all
          select format('grant usage, create on schema %I to %I;', needed.nspname, name)
          from pg_namespace as needed
          where (needed.oid = record.relnamespace or needed.nspname = 'todo_api') and not (
            has_schema_privilege(mover, needed.oid, 'usage') and has_schema_privilege(mover, needed.oid, 'create')
          )
          union all
          select format('alter table %I.%I owner to %I;', nspname, relname, name)
          from pg_class as ours
          where relnamespace = record.relnamespace and relkind = 'r' and relname in (${tables})
            and not pg_has_role(mover, relowner, 'usage')
          union all
          select format('alter function %I.first_instant(timestamp, text) owner to %I;', nspname, name)
          from pg_proc
          where pronamespace = record.relnamespace and proname = 'first_instant'
            and oidvectortypes(proargtypes) = 'timestamp without time zone, text'
            and not pg_has_role(mover, proowner, 'usage')
        ) as needed
      ) as lacking
    from pg_class as record join pg_namespace on pg_namespace.oid = relnamespace, lateral (
      select oid as mover, rolname as name from pg_roles
      where case when pg_has_role(relowner, 'usage') then rolname = current_user else oid = relowner end
    ) as movers
    where ${isRecord}
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

/**
 * What to say if such tables are somewhere, although those that are served are in todo_api: a backup from
 * before the move was restored, or a server of that version was started on a database that it did not know.
 */
export async function warningOfOlder(query: Query): Promise<string | undefined> {
  const [found] = await query<{ schemas: string }>`
    select string_agg(quote_ident(nspname), ', ' order by nspname) as schemas
    from pg_class as record join pg_namespace on pg_namespace.oid = relnamespace
    where ${isRecord} and nspname <> 'todo_api'
    having count(*) > 0`
  if (found === undefined) return undefined
  return (
    `An older version left its tables in the schema ${found.schemas}, and what is in them is not served, since todo_api has tables, too. ` +
    'See "Tables that an older version left" in docs/operations.md. If they are not needed, rename their table schema_migrations.'
  )
}

function whyNotMovable(older: Older): string | undefined {
  const { schema, owner, role, database, isOwn, isOnPath, lacking } = older
  const belonging = isOwn ? '' : `. They belong to ${owner}, and ${role} may not move them`
  const start = isOwn ? 'Start again.' : `Start one server with the role ${owner}.`
  if (lacking !== null)
    return `${belonging}. To move them, ${isOwn ? role : owner} needs more rights. Let whoever may give them run: ${lacking} ${start}`
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
    where relnamespace = ${namespace} and relkind = 'r' and relname in (${tables})
    having count(*) > 0`
  if (found === undefined) return
  throw new DatabaseUnusable(
    `the tables in the schema ${schema} cannot be moved with all that was set up for them: ${found.names}. ` +
      'Write down how it was made, and the rights of the roles that row-level security restricts. Take both away, ' +
      'start a server, and give both back for the tables in todo_api. Give those roles no right to the views under the old names, which go past it.',
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
