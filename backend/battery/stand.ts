import { $ } from 'bun'
import { rm } from 'node:fs/promises'
import { temporaryDirectory } from '../tests/support/daemon.ts'
import { newUser } from '../tests/support/api.ts'
import { startPgBouncer } from '../tests/support/pgbouncer.ts'
import { databaseUrl, owner, type Postgres } from '../tests/support/postgres.ts'
import { startServer } from '../tests/support/server.ts'
import { startProxy } from '../tests/support/proxy.ts'

export type Stand = Awaited<ReturnType<typeof buildStand>>

/** A server that can be ended and started again, elsewhere. */
export type Place = Awaited<ReturnType<typeof startPlace>>

export async function startPlace(start: () => ReturnType<typeof startServer>) {
  let server = await start()
  return {
    origin: () => server.origin,
    whyFailed: (requestId: string) => server.whyFailed(requestId),
    /** Ends it, gives the exit code, and starts it again. */
    async restart(signal: NodeJS.Signals, afterSignal?: () => Promise<void>): Promise<number> {
      const ending = server.end(signal)
      await afterSignal?.()
      const exitCode = await ending
      server = await start()
      return exitCode
    },
    end: async () => server.end(),
  }
}

/**
 * Two servers on one database, one of them through PgBouncer, both behind a line that can be
 * disturbed. The database has a small disk of its own, if this machine lets us mount one.
 */
export async function buildStand(postgres: Postgres) {
  const disk = await mountSmallDisk()
  const tablespace = disk && (await postgres.createTablespace(disk.path))
  const database = await postgres.createDatabase(tablespace)
  const proxy = await startProxy(postgres.port)
  const pgbouncer = await startPgBouncer({ ...postgres, port: proxy.port })
  const direct = databaseUrl({ port: proxy.port, database }, 'sslmode=require')
  const pooled = databaseUrl({ port: pgbouncer.port, database }, 'sslmode=require&prepare=false')
  const settings = { LOG_LEVEL: 'info', MAX_TASKS_PER_USER: '1000000' }
  const places = await Promise.all([
    startPlace(async () => startServer(direct, settings)),
    startPlace(async () => startServer(pooled, { ...settings, DATABASE_URL_UNPOOLED: direct })),
  ])
  const users = await Promise.all(Array.from({ length: 4 }, newUser))
  const admin = postgres.connectAsSuperuser(database)

  return {
    postgres,
    pgbouncer,
    proxy,
    places,
    users,
    /** What the log of a server says of a request that failed. */
    whyFailed: (requestId: string) =>
      places.map((place) => place.whyFailed(requestId)).find((reason) => reason !== undefined),
    /** Absent if there is none. */
    disk,
    admin,
    /** Ends every session of the servers. */
    terminate: async () => admin`
      select pg_terminate_backend(pid) from pg_stat_activity where usename = ${owner.name}`,
    async close(): Promise<void> {
      await Promise.all(places.map(async (place) => place.end()))
      await pgbouncer.close()
      proxy.close()
      await admin.end({ timeout: 1 })
      await postgres.admin.unsafe(`drop database ${database} with (force)`)
      if (tablespace) await postgres.admin.unsafe(`drop tablespace ${tablespace}`)
      await disk?.unmount()
    },
  }
}

const diskSize = 256 // MB

/** A file system of its own for PostgreSQL, or nothing if it cannot be mounted. */
async function mountSmallDisk() {
  const path = await temporaryDirectory('small-disk')
  const mounting = await $`mount -t tmpfs -o size=${diskSize}m tmpfs ${path}`.quiet().nothrow()
  if (mounting.exitCode !== 0) {
    await rm(path, { recursive: true })
    return undefined
  }
  const tablespace = `${path}/tablespace`
  const filler = `${path}/filler`
  await $`install -d -o postgres -m 700 ${tablespace}`.quiet()
  return {
    path: tablespace,
    async fill(): Promise<void> {
      // It ends when there is no room left.
      await $`dd if=/dev/zero of=${filler} bs=8k`.quiet().nothrow()
    },
    async free(): Promise<void> {
      await rm(filler)
    },
    async unmount(): Promise<void> {
      await $`umount ${path}`.quiet()
      await rm(path, { recursive: true })
    },
  }
}
