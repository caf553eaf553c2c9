import type { DatabaseAddress } from './address.ts'
import { connect, DatabaseUnavailable, StatementFailed, type Database } from './pool.ts'
import { startEmbedded } from './embedded.ts'
import { noDatabaseMetrics, type DatabaseMetrics } from './metrics.ts'
import { migrate } from './migrate.ts'
import { DatabaseUnusable, explainRefusal, explainSilence, explainWait } from './refusal.ts'

/**
 * Opens the database that an address names, or else the embedded one in a directory, and brings its
 * schema up to date. A server that does not answer yet is asked again for half a minute: it may be
 * starting just as this one is. Where asking again cannot help, that is told at once.
 *
 * @param onRetry is told what went wrong before a new attempt, unless that has been told before
 * @param onWarning is told what makes every write fail, at first and then once a second at most
 * @throws DatabaseUnusable, DatabaseUnavailable, MigrationFailed, DirectoryUnusable
 */
export async function openDatabase(
  address: DatabaseAddress | undefined,
  directory: string,
  onRetry: (problem: string) => void,
  onWarning: (problem: string) => void,
  metrics = noDatabaseMetrics,
): Promise<Database> {
  const database = address
    ? connect(address, {
        metrics,
        onReadsOnly: () => void warnIfReadOnly(database, onWarning).catch(ignore),
      })
    : await openEmbedded(directory, metrics)
  try {
    if (address) {
      await prepareWhenReady(address, database, onRetry)
      await warnIfReadOnly(database, onWarning)
    } else await migrate(database)
    return database
  } catch (error) {
    await database.close()
    throw error
  }
}

async function openEmbedded(directory: string, metrics: DatabaseMetrics): Promise<Database> {
  const embedded = await startEmbedded(directory)
  const database = connect({ socket: embedded.socket }, { metrics })
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

async function prepareWhenReady(
  address: DatabaseAddress,
  database: Database,
  onRetry: (problem: string) => void,
): Promise<void> {
  const giveUpAt = Date.now() + attemptsFor
  const told = new Set<string>()
  for (;;) {
    try {
      await expectUtf8(database)
      await migrate(database)
      return
    } catch (error) {
      if (error instanceof StatementFailed) throw new DatabaseUnusable(error.message)
      if (!(error instanceof DatabaseUnavailable)) throw error
      const refusal = explainRefusal(error, address)
      if (refusal) throw refusal
      if (Date.now() > giveUpAt) throw explainSilence(error, attemptsFor / 1000)
      if (!told.has(error.message)) onRetry(explainWait(error))
      told.add(error.message)
      await Bun.sleep(betweenAttempts)
    }
  }
}

/**
 * A database of another encoding refuses what users write, or, as SQL_ASCII, counts bytes where the
 * limits of fields and searches count characters.
 *
 * @throws DatabaseUnusable
 */
async function expectUtf8({ query }: Database): Promise<void> {
  const [found] = await query<{ name: string; encoding: string }>`
    select current_database() as name, current_setting('server_encoding') as encoding`
  const { name, encoding } = found!
  if (encoding === 'UTF8') return
  throw new DatabaseUnusable(
    `the database ${name} is encoded as ${encoding}, and tasks need UTF8. Create another one: create database … template template0 encoding 'UTF8'`,
  )
}

/** A setting of somebody's makes it only read, and not a failover, which would pass by itself. */
async function warnIfReadOnly(
  { query }: Database,
  onWarning: (problem: string) => void,
): Promise<void> {
  const [found] = await query<{ role: string; name: string; is_set: boolean }>`
    select
      quote_ident(current_user) as role, quote_ident(current_database()) as name,
      current_setting('default_transaction_read_only')::boolean and not pg_is_in_recovery() as is_set`
  const { role, name, is_set } = found!
  if (is_set)
    onWarning(
      `default_transaction_read_only is on, so that every write is 503. See where it is set: alter role ${role} or alter database ${name}, reset default_transaction_read_only; the options of DATABASE_URL; postgresql.conf`,
    )
}

/** What keeps it from being asked is told by the requests that meet it. */
function ignore(): void {}
