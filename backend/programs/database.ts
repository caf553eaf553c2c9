import { resolve } from 'node:path'
import { readDatabaseConfig } from '../config.ts'
import type { Database } from '../db/pool.ts'
import { openDatabase } from '../db/open.ts'

/**
 * Does something with the servers' database, whose tables are brought up to date before.
 *
 * @throws ConfigError, and what `openDatabase` throws
 */
export async function withDatabase<Result>(
  work: (database: Database) => Promise<Result>,
): Promise<Result> {
  const { database: address } = readDatabaseConfig(process.env)
  const database = await openDatabase(
    address,
    resolve('.data'),
    (problem) =>
      process.stderr.write(`The database does not answer yet, trying again: ${problem}\n`),
    (problem) => process.stderr.write(`${problem}\n`),
  )
  try {
    return await work(database)
  } finally {
    await database.close()
  }
}
