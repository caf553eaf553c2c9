import { rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { freePort, startDaemon, temporaryDirectory } from './daemon.ts'
import { owner, type Postgres } from './postgres.ts'

export type PgBouncer = Awaited<ReturnType<typeof startPgBouncer>>

/** Starts a transaction pooler in front of a PostgreSQL, as there is behind Neon's `-pooler` hosts. */
export async function startPgBouncer({
  port: serverPort,
  certificates,
}: Pick<Postgres, 'port' | 'certificates'>) {
  const directory = await temporaryDirectory('pgbouncer')
  const settings = join(directory, 'pgbouncer.ini')
  const users = join(directory, 'users.txt')
  const port = await freePort()
  await Bun.write(users, `"${owner.name}" "${owner.password}"\n`)
  await Bun.write(
    settings,
    `[databases]
* = host=localhost port=${serverPort}

[pgbouncer]
listen_addr = localhost
listen_port = ${port}
unix_socket_dir =
pool_mode = transaction
max_client_conn = 500
server_login_retry = 0.1
server_connect_timeout = 3
auth_type = scram-sha-256
auth_file = ${users}
client_tls_sslmode = require
client_tls_cert_file = ${certificates.certificate}
client_tls_key_file = ${certificates.key}
server_tls_sslmode = verify-full
server_tls_ca_file = ${certificates.authority}
`,
  )
  const start = async () =>
    startDaemon(['pgbouncer', settings], join(directory, 'log'), async () => accepts(port))
  let pooler = await start()

  async function stop(): Promise<void> {
    pooler.kill('SIGTERM')
    await pooler.exited
  }

  return {
    port,
    /** Whether it has not ended by itself. */
    isRunning: () => pooler.exitCode === null,
    async restart(): Promise<void> {
      await stop()
      pooler = await start()
    },
    async close(): Promise<void> {
      await stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

async function accepts(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, 'localhost')
  socket.once('connect', () => resolve(true))
  socket.once('error', () => resolve(false))
  return promise.finally(() => socket.destroy())
}
