import { databaseUrl } from '../tests/support/postgres.ts'
import { startServer } from '../tests/support/server.ts'
import type { Battery } from './main.ts'

/**
 * Starts a server as production does on a new database, which it reaches over TLS and through the
 * pooler.
 */
export async function startFreshServer({ postgres, pgbouncer }: Battery) {
  const database = await postgres.createDatabase()
  const { authority } = postgres.certificates
  const server = await startServer(
    databaseUrl(
      { port: pgbouncer.port, database },
      // Debian's PgBouncer is older than 1.21.
      `sslmode=verify-full&sslrootcert=${authority}&prepare=false`,
    ),
  )
  const admin = postgres.connectAsSuperuser(database)
  return {
    ...server,
    /** Past the server and the pooler. */
    admin,
    /** Ends it as a stop in production would, and gives the exit code. */
    async close(): Promise<number> {
      await admin.end()
      return server.end()
    },
  }
}
