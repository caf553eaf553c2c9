import { DatabaseUnavailable, StatementFailed, type Database } from './pool.ts'
import tasks from './migrations/0001_tasks.sql' with { type: 'text' }
import fieldsAndVersions from './migrations/0002_fields_and_versions.sql' with { type: 'text' }
import trashAndSync from './migrations/0003_trash_and_sync.sql' with { type: 'text' }
import zonesWithSummerTime from './migrations/0006_zones_with_summer_time.sql' with { type: 'text' }

export type Migration = { name: string; sql: string }

/** In the order in which they run. Each is a transaction; what has run once is never edited. */
export const migrations: readonly Migration[] = [
  { name: '0001_tasks', sql: tasks },
  { name: '0002_fields_and_versions', sql: fieldsAndVersions },
  { name: '0003_trash_and_sync', sql: trashAndSync },
  { name: '0006_zones_with_summer_time', sql: zonesWithSummerTime },
]

export class MigrationFailed extends Error {
  override readonly name = 'MigrationFailed'
}

const deadline = 60_000 // ms
const lockKey = 7_326_417_205 // any number that nothing else in the database locks
const uniqueViolation = '23505'

/**
 * Brings the database's schema up to date and gives the names of the migrations that it ran.
 *
 * Several servers may do so at once, through a transaction pooler too. A migration's transaction
 * begins by writing its own name down: a second server waits there for the first, finds the name
 * taken and knows that it has been done.
 *
 * @throws MigrationFailed with the name of the migration; nothing of it is applied
 */
export async function migrate(
  { query, script }: Pick<Database, 'query' | 'script'>,
  all: readonly Migration[] = migrations,
): Promise<string[]> {
  // `create table if not exists` is not safe by itself when two sessions run it at once.
  await script(
    `select pg_advisory_xact_lock(${lockKey});
     create table if not exists schema_migrations (
       name text primary key,
       applied_at timestamptz not null default now()
     )`,
    deadline,
  )
  const applied = await query<{ name: string }>`select name from schema_migrations`
  const missing = all.filter(({ name }) => !applied.some((row) => row.name === name))
  const ran: string[] = []
  for (const { name, sql } of missing) {
    try {
      await script(`insert into schema_migrations (name) values ('${name}');\n${sql}`, deadline)
      ran.push(name)
    } catch (error) {
      if (error instanceof StatementFailed && (await isApplied(query, name, error))) continue
      if (error instanceof DatabaseUnavailable) throw error
      throw new MigrationFailed(
        `Migration ${name} failed and was rolled back: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
  }
  return ran
}

async function isApplied(
  query: Database['query'],
  name: string,
  { sqlState }: StatementFailed,
): Promise<boolean> {
  if (sqlState !== uniqueViolation) return false
  const rows = await query`select from schema_migrations where name = ${name}`
  return rows.length > 0
}
