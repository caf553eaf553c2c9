/** After a restore from a backup, before clients come back: `bun run restored`. */
import { resolve } from 'node:path'
import { ConfigError, readConfig } from '../config.ts'
import { DirectoryInUse } from '../db/data-directory.ts'
import { MigrationFailed } from '../db/migrate.ts'
import { openDatabase } from '../db/open.ts'
import { DatabaseUnavailable, StatementFailed } from '../db/pool.ts'
import { markRestored } from '../tasks/restored.ts'

async function run(): Promise<void> {
  const config = readConfig(process.env)
  const database = await openDatabase(config.database, resolve('.data'), (problem) =>
    process.stderr.write(`The database does not answer yet, trying again: ${problem}\n`),
  )
  try {
    await markRestored(database)
  } finally {
    await database.close()
  }
  process.stdout.write(
    'The database is marked as restored: no tag, version, sync token or event id from before is believed.\n',
  )
}

try {
  await run()
} catch (error) {
  const isExpected = [
    ConfigError,
    DatabaseUnavailable,
    DirectoryInUse,
    MigrationFailed,
    StatementFailed,
  ].some((kind) => error instanceof kind)
  if (!isExpected) throw error
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
