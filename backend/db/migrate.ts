import { expectMovable } from './older-tables.ts'
import { ownSchema } from './own-schema.ts'
import { DatabaseUnavailable, StatementFailed } from './failures.ts'
import type { Database } from './pool.ts'
import { expectRights } from './rights.ts'
import tasks from './migrations/0001_tasks.sql' with { type: 'text' }
import fieldsAndVersions from './migrations/0002_fields_and_versions.sql' with { type: 'text' }
import trashAndSync from './migrations/0003_trash_and_sync.sql' with { type: 'text' }
import recount from './migrations/0004_recount.sql' with { type: 'text' }
import epoch from './migrations/0005_epoch.sql' with { type: 'text' }
import zonesWithSummerTime from './migrations/0006_zones_with_summer_time.sql' with { type: 'text' }
import keysByUser from './migrations/0007_keys_by_user.sql' with { type: 'text' }
import priorityOf from './migrations/0008_priority_of.sql' with { type: 'text' }
import recurrence from './migrations/0009_recurrence.sql' with { type: 'text' }
import personalKeys from './migrations/0010_personal_keys.sql' with { type: 'text' }
import reminders from './migrations/0011_reminders.sql' with { type: 'text' }
import prioritiesInline from './migrations/0012_priorities_inline.sql' with { type: 'text' }

export type Migration = { name: string; sql: string }

/** In the order in which they run. Each is a transaction; what has run once is never edited. */
export const migrations: readonly Migration[] = [
  { name: '0001_tasks', sql: tasks },
  { name: '0002_fields_and_versions', sql: fieldsAndVersions },
  { name: '0003_trash_and_sync', sql: trashAndSync },
  { name: '0004_recount', sql: recount },
  { name: '0005_epoch', sql: epoch },
  { name: '0006_zones_with_summer_time', sql: zonesWithSummerTime },
  { name: '0007_keys_by_user', sql: keysByUser },
  { name: '0008_priority_of', sql: priorityOf },
  { name: '0009_recurrence', sql: recurrence },
  { name: '0010_personal_keys', sql: personalKeys },
  { name: '0011_reminders', sql: reminders },
  { name: '0012_priorities_inline', sql: prioritiesInline },
]

export class MigrationFailed extends Error {
  override readonly name = 'MigrationFailed'
}

const deadline = 60_000 // ms
const patience = 58_000 // ms, for a lock that somebody else holds
const lockKey = 7_326_417_205 // any number that nothing else in the database locks
const uniqueViolation = '23505'
const insufficientPrivilege = '42501'

/**
 * Brings the database's schema up to date and gives the names of the migrations that it ran. If nothing is
 * missing it only reads, so a role that may create nothing is enough.
 *
 * Several servers may do so at once, through a transaction pooler too. A migration's transaction
 * begins by writing its own name down: a second server waits there for the first, finds the name taken
 * and so knows that it has been done.
 *
 * @throws MigrationFailed with the name of the migration; nothing of it is applied
 * @throws DatabaseUnusable if the role lacks rights on what is there, or an older version's tables cannot be moved
 */
export async function migrate(
  { query, script }: Pick<Database, 'query' | 'script'>,
  all: readonly Migration[] = migrations,
): Promise<string[]> {
  if (await isRecordThere(query)) await expectRights(query)
  else await createRecord({ query, script })
  const applied = await readRecord(query)
  const missing = all.filter(({ name }) => !applied.includes(name))
  const ran: string[] = []
  for (const { name, sql } of missing) {
    try {
      const record = `insert into todo_api.schema_migrations (name) values ('${name}')`
      await script(`${ownSettings};\n${ownNames};\n${record};\n${sql}`, deadline)
      ran.push(name)
    } catch (error) {
      if (error instanceof StatementFailed && (await isApplied(query, name, error))) continue
      throw await explain(query, error, `Migration ${name} failed and was rolled back`)
    }
  }
  return ran
}

/**
 * A migration is not subject to the everyday limits of the role or the database, which would end it or
 * forbid it to write. These hold until the end of its transaction; the first must come before anything
 * else in it.
 */
const ownSettings = `
  set transaction isolation level read committed, read write;
  select set_config(name, limits.value, true)
  from pg_settings join (values
    ('statement_timeout', '${deadline}'), ('lock_timeout', '${patience}'), ('transaction_timeout', '0')
  ) as limits (name, value) using (name)`

/** Makes a migration's names mean ours, until the end of its transaction, and so through poolers too. */
const ownNames = `select set_config('search_path', 'todo_api, pg_temp', true)`

/** Asks the catalog, which everybody may read: a role may lack the right to use the schema. */
async function isRecordThere(query: Database['query']): Promise<boolean> {
  const rows = await query`
    select from pg_class
    where relname = 'schema_migrations' and relnamespace = to_regnamespace('todo_api')`
  return rows.length > 0
}

async function createRecord({ query, script }: Pick<Database, 'query' | 'script'>): Promise<void> {
  try {
    await expectMovable(query)
  } catch (error) {
    // Another server may have moved them while they were looked at.
    if (await isRecordThere(query)) return
    throw error
  }
  try {
    // `create table if not exists` alone is not safe when two sessions run it at once.
    await script(
      `${ownSettings};
       select pg_advisory_xact_lock(${lockKey});
       ${ownSchema};
       create table if not exists todo_api.schema_migrations (
         name text primary key,
         applied_at timestamptz not null default now()
       )`,
      deadline,
    )
  } catch (error) {
    throw await explain(query, error, 'The schema todo_api cannot be made')
  }
}

async function readRecord(query: Database['query']): Promise<string[]> {
  try {
    const rows = await query<{ name: string }>`select name from todo_api.schema_migrations`
    return rows.map(({ name }) => name)
  } catch (error) {
    throw await explain(query, error, 'The table todo_api.schema_migrations cannot be read')
  }
}

/** The error of a migration, naming the role if it lacks a right; as it is if trying again may help. */
async function explain(query: Database['query'], error: unknown, what: string): Promise<unknown> {
  if (error instanceof DatabaseUnavailable) return error
  const problem = `${what}: ${error instanceof Error ? error.message : String(error)}`
  if (!(error instanceof StatementFailed && error.sqlState === insufficientPrivilege))
    return new MigrationFailed(problem)
  const [found] = await query<{ role: string; name: string; lacking: string | null }>`
    select
      quote_ident(current_user) as role, quote_ident(current_database()) as name,
      case
        when schema is null and not has_database_privilege(current_database(), 'create')
          then 'create on database ' || quote_ident(current_database())
        when not has_schema_privilege(schema, 'usage, create') then 'usage, create on schema todo_api'
      end as lacking
    from to_regnamespace('todo_api') as schema`
  const { role, name, lacking } = found!
  const remedy =
    lacking === null ? '' : ` (its owner lets ${role} do that by: grant ${lacking} to ${role})`
  return new MigrationFailed(
    `${problem}. The role ${role} of DATABASE_URL lacks a right to change the tables of ${name}. ` +
      `Start one server with the role that owns them and may create schemas${remedy}; once that is done, ${role} needs only to use the schema todo_api, and to read and write its tables.`,
  )
}

async function isApplied(
  query: Database['query'],
  name: string,
  { sqlState }: StatementFailed,
): Promise<boolean> {
  if (sqlState !== uniqueViolation) return false
  const rows = await query`select from todo_api.schema_migrations where name = ${name}`
  return rows.length > 0
}
