/** After a restore from a backup, before clients come back: `bun run restored`. */
import { resolve } from 'node:path'
import { readDatabaseConfig } from '../config.ts'
import { openDatabase } from '../db/open.ts'
import { isExpected } from '../expected.ts'
import { markRestored } from '../tasks/restored.ts'

async function run(): Promise<void> {
  const { database: address } = readDatabaseConfig(process.env)
  const database = await openDatabase(
    address,
    resolve('.data'),
    (problem) =>
      process.stderr.write(`The database does not answer yet, trying again: ${problem}\n`),
    (problem) => process.stderr.write(`${problem}\n`),
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
  if (!isExpected(error)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
}
