import { resolve } from 'node:path'
import { readDatabaseConfig } from '../config.ts'
import { DirectoryUnusable } from '../db/data-directory.ts'
import { isEmbeddedIn } from '../db/embedded.ts'
import type { Database } from '../db/pool.ts'
import { openDatabase } from '../db/open.ts'

/**
 * Works on the servers' database, after bringing its tables up to date. It says which database that is, and
 * never creates one: work on a new one would be mistaken for work on the servers' own.
 *
 * @throws ConfigError, DirectoryUnusable, and what `openDatabase` throws
 */
export async function withDatabase<Result>(
  work: (database: Database) => Promise<Result>,
): Promise<Result> {
  const { database: address } = readDatabaseConfig(process.env)
  const directory = resolve('.data')
  if (!address && !(await isEmbeddedIn(directory)))
    throw new DirectoryUnusable(
      `There is no database in ${directory}. Set DATABASE_URL to the one that the servers use, or start this in their directory.`,
    )
  const name = address
    ? `${address.database} at ${address.host}:${address.port}`
    : `the embedded one in ${directory}`
  process.stderr.write(`Database: ${name}\n`)
  const database = await openDatabase(
    address,
    directory,
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
