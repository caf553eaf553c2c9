import type { DatabaseAddress } from './address.ts'
import { DatabaseUnavailable, StatementFailed } from './failures.ts'
import { connect, type Database } from './pool.ts'
import { startEmbedded } from './embedded.ts'
import { noDatabaseMetrics, type DatabaseMetrics } from './metrics.ts'
import { migrate } from './migrate.ts'
import { warningOfOlder } from './older-tables.ts'
import { DatabaseUnusable, explainRefusal, explainSilence, explainWait } from './refusal.ts'

/**
 * Opens the database that an address names, or else the embedded one in a directory, and brings its
 * schema up to date. A server that does not answer yet is asked again for half a minute: it may be
 * starting, too. If asking again cannot help, that is told at once.
 *
 * @param onRetry is called with what went wrong before a new attempt, once for each problem
 * @param onWarning is called with what makes every write fail, at first and then at most once a second, and with
 *   tables that are not served
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
      const warning = await warningOfOlder(database.query)
      if (warning !== undefined) onWarning(warning)
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
      await expectUsable(database)
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
 * A database with another encoding refuses what users write or, if it is SQL_ASCII, counts bytes, whereas
 * the limits of fields and searches count characters. Under a stricter isolation PostgreSQL ends one of two
 * writes that meet, in place of letting it wait (SQLSTATE 40001).
 *
 * @throws DatabaseUnusable
 */
async function expectUsable({ query }: Database): Promise<void> {
  const [found] = await query<{ role: string; name: string; encoding: string; isolation: string }>`
    select
      quote_ident(current_user) as role, quote_ident(current_database()) as name,
      current_setting('server_encoding') as encoding,
      current_setting('default_transaction_isolation') as isolation`
  const { role, name, encoding, isolation } = found!
  if (encoding !== 'UTF8')
    throw new DatabaseUnusable(
      `the database ${name} is encoded as ${encoding}, and tasks need UTF8. Create another one: create database … template template0 encoding 'UTF8'`,
    )
  if (!['read committed', 'read uncommitted'].includes(isolation))
    throw new DatabaseUnusable(
      `default_transaction_isolation is ${isolation}, under which writes at the same moment fail, and it has to be read committed. See where it is set: ${whereSet('default_transaction_isolation', role, name)}`,
    )
}

/** Where somebody may have set what is not so by itself. */
function whereSet(setting: string, role: string, database: string): string {
  return `alter role ${role} or alter database ${database}, reset ${setting}; the options of DATABASE_URL; postgresql.conf`
}

/** Warns if a setting makes the database read-only. A failover would pass, a setting does not. */
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
      `default_transaction_read_only is on, so every write is answered with 503. See where it is set: ${whereSet('default_transaction_read_only', role, name)}`,
    )
}

/** If the database cannot be asked, the requests that fail for the same reason say so. */
function ignore(): void {}
