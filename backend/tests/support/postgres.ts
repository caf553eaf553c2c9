import { $ } from 'bun'
import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import postgres from 'postgres'
import { makeCertificates } from './certificates.ts'
import { asPostgres, freePort, startDaemon, temporaryDirectory } from './daemon.ts'
import { eventually } from './eventually.ts'

export type Postgres = Awaited<ReturnType<typeof startPostgres>>

/** Who owns the databases. The password has characters that a URL must escape. */
export const owner = { name: 'neondb_owner', password: 'npg_a/b@c:d%e' }

export const superuser = 'postgres'

/** A connection string as Neon's console writes it. */
export function databaseUrl(
  { port, host = 'localhost', database = 'neondb' }: Place,
  parameters: string,
  password = owner.password,
): string {
  return `postgresql://${owner.name}:${encodeURIComponent(password)}@${host}:${port}/${database}?${parameters}`
}

export type Place = { port: number; host?: string; database?: string }

/**
 * Starts a PostgreSQL server of its own in a temporary directory. Over TCP it takes TLS and SCRAM
 * passwords only, as Neon does. Its certificate is for `localhost`, and not for 127.0.0.1.
 *
 * @param settings what differs from the usual ones; `undefined` is left to PostgreSQL and `alter system`
 * @param plain whether it also takes passwords without TLS
 */
export async function startPostgres(
  settings: Record<string, string | undefined> = {},
  { plain = false }: { plain?: boolean } = {},
) {
  const directory = await temporaryDirectory('postgres')
  const files = join(directory, 'data')
  const programs = await newestPrograms()
  const init = ['--username', superuser, '--encoding=UTF8', '--locale=C.UTF-8', '--no-sync']
  await $`${asPostgres} ${programs}/initdb --pgdata=${files} ${init}`.quiet()
  const connections = plain ? 'host' : 'hostssl'
  await Bun.write(
    join(files, 'pg_hba.conf'),
    `local all,replication ${superuser} trust\n${connections} all all all scram-sha-256\n`,
  )
  const certificates = await makeCertificates(directory, ['localhost', '*.neon.tech'])
  const port = await freePort()
  const allSettings = {
    port: String(port),
    listen_addresses: 'localhost',
    unix_socket_directories: directory,
    ssl: 'on',
    ssl_cert_file: certificates.certificate,
    ssl_key_file: certificates.key,
    max_connections: '200',
    fsync: 'off',
    ...settings,
  }

  /** Past TLS, passwords and any pooler. */
  function connectAsSuperuser(database: string) {
    const path = join(directory, `.s.PGSQL.${port}`)
    return postgres({ path, username: superuser, database, max: 3, onnotice: () => {} })
  }

  async function isReady(): Promise<boolean> {
    const sql = connectAsSuperuser('postgres')
    try {
      await sql`select`
      return true
    } catch {
      return false
    } finally {
      await sql.end()
    }
  }

  async function start() {
    const options = Object.entries(allSettings)
      .filter(([, value]) => value !== undefined)
      .flatMap((setting) => ['-c', setting.join('=')])
    const command = [join(programs, 'postgres'), '-D', files, ...options]
    return startDaemon(command, join(directory, 'log'), isReady)
  }

  let server = await start()
  const admin = connectAsSuperuser('neondb')
  const setup = connectAsSuperuser('postgres')
  await setup.unsafe(`create role ${owner.name} login password '${owner.password}'`)
  await setup.unsafe(`create database neondb owner ${owner.name}`)
  await setup.end()

  async function stop(): Promise<void> {
    server.kill('SIGINT')
    await server.exited
  }

  return {
    /** The process whose children do the work. */
    get pid() {
      return server.pid
    },
    /** Its processes, those that sign somebody in among them. */
    children: async () => childrenOf(server.pid),
    port,
    certificates,
    directory,
    /** Past TLS, passwords and any pooler. */
    admin,
    /** Past TLS, passwords and any pooler, to a database of one's own. */
    connectAsSuperuser,
    async createDatabase(tablespace = 'pg_default'): Promise<string> {
      const name = `fresh_${crypto.randomUUID().replaceAll('-', '')}`
      await admin.unsafe(`create database ${name} owner ${owner.name} tablespace ${tablespace}`)
      return name
    },
    /** Makes a place for databases in another directory. */
    async createTablespace(path: string): Promise<string> {
      const name = `space_${crypto.randomUUID().replaceAll('-', '')}`
      await admin.unsafe(`create tablespace ${name} owner ${owner.name} location '${path}'`)
      return name
    },
    /** Runs a statement and keeps the locks that it took until they are released. */
    async hold(statement: string): Promise<() => Promise<void>> {
      const session = await admin.reserve()
      await session.unsafe(`begin; ${statement}`)
      return async function release() {
        await session.unsafe('commit')
        session.release()
      }
    },
    /** How many statements are waiting for a lock, and began more than some milliseconds ago. */
    async waiting({ longerThan = 0 } = {}): Promise<number> {
      const [row] = await admin<{ count: number }[]>`
        select count(*)::int from pg_stat_activity
        where wait_event_type = 'Lock'
          and clock_timestamp() - query_start > ${longerThan} * interval '1 millisecond'`
      return row!.count
    },
    /** Stops every process of the server as it is: connections stay open, and nothing answers. */
    async freeze(): Promise<() => void> {
      server.kill('SIGSTOP')
      const processes = [server.pid, ...(await childrenOf(server.pid))]
      for (const pid of processes) process.kill(pid, 'SIGSTOP')
      return function thaw() {
        for (const pid of processes) process.kill(pid, 'SIGCONT')
      }
    },
    /** Kills one of the server's sessions, upon which PostgreSQL ends them all and recovers. */
    async crash(): Promise<void> {
      const [session] = await admin<{ pid: number }[]>`
        select pid from pg_stat_activity where usename = ${owner.name} limit 1`
      process.kill(session!.pid, 'SIGKILL')
    },
    stop,
    /** Kills the server's first process, upon which the others end; nothing is written any more. */
    async kill(): Promise<void> {
      const children = await childrenOf(server.pid)
      server.kill('SIGKILL')
      await server.exited
      await eventually('its processes end', async () => !children.some(isRunning))
    },
    async start(): Promise<void> {
      server = await start()
    },
    async close(): Promise<void> {
      await admin.end({ timeout: 1 })
      await stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

export async function newestPrograms(): Promise<string> {
  const root = '/usr/lib/postgresql' // Debian keeps a directory there for each version
  const [newest] = (await readdir(root)).toSorted((one, other) => Number(other) - Number(one))
  return join(root, newest ?? '', 'bin')
}

async function childrenOf(parent: number): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter(Number.isInteger)
  const statuses = await Promise.all(pids.map(statusOf))
  return pids.filter((_, index) => statuses[index]?.includes(`\nPPid:\t${parent}\n`))
}

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`)
}

async function statusOf(pid: number): Promise<string> {
  // It may have ended since the list was made.
  return Bun.file(`/proc/${pid}/status`)
    .text()
    .catch(() => '')
}
