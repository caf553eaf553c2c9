import type { DatabaseAddress } from './address.ts'
import { connect, DatabaseUnavailable, type Database } from './pool.ts'
import { startEmbedded } from './embedded.ts'
import { migrate } from './migrate.ts'

/**
 * Opens the database that an address names, or else the embedded one in a directory, and brings its
 * schema up to date. A server that does not answer yet is asked again for half a minute: it may be
 * starting just as this one is.
 *
 * @param onRetry is told what went wrong before each new attempt
 * @throws DatabaseUnavailable, MigrationFailed, DirectoryInUse
 */
export async function openDatabase(
  address: DatabaseAddress | undefined,
  directory: string,
  onRetry: (problem: string) => void,
): Promise<Database> {
  const database = address ? connect(address) : await openEmbedded(directory)
  try {
    await migrateWhenReady(database, onRetry)
    return database
  } catch (error) {
    await database.close()
    throw error
  }
}

async function openEmbedded(directory: string): Promise<Database> {
  const embedded = await startEmbedded(directory)
  const database = connect({ socket: embedded.socket })
  return {
    ...database,
    async close() {
      await database.close()
      await embedded.close()
    },
  }
}

const attemptsFor = 30_000 // ms
const betweenAttempts = 1_000 // ms

async function migrateWhenReady(
  database: Database,
  onRetry: (problem: string) => void,
): Promise<void> {
  const giveUpAt = Date.now() + attemptsFor
  for (;;) {
    try {
      await migrate(database)
      return
    } catch (error) {
      if (!(error instanceof DatabaseUnavailable) || Date.now() > giveUpAt) throw error
      onRetry(error.message)
      await Bun.sleep(betweenAttempts)
    }
  }
}
