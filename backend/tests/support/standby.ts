import { $ } from 'bun'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import postgres from 'postgres'
import { asPostgres, freePort, startDaemon, temporaryDirectory } from './daemon.ts'
import { newestPrograms, superuser, type Postgres } from './postgres.ts'

/** Starts a copy of a PostgreSQL server that follows it and only reads. */
export async function startStandby({
  directory,
  port: primary,
}: Pick<Postgres, 'directory' | 'port'>) {
  const own = await temporaryDirectory('standby')
  const files = join(own, 'data')
  const programs = await newestPrograms()
  const source = ['--host', directory, '--port', String(primary), '--username', superuser]
  await $`${asPostgres} ${programs}/pg_basebackup ${source} --pgdata=${files} --write-recovery-conf --checkpoint=fast --no-sync`.quiet()
  const port = await freePort()
  const settings = {
    port: String(port),
    listen_addresses: 'localhost',
    unix_socket_directories: own,
    ssl: 'on',
    ssl_cert_file: join(directory, 'server.pem'),
    ssl_key_file: join(directory, 'server.key'),
    max_connections: '200',
    fsync: 'off',
  }
  const options = Object.entries(settings).flatMap((setting) => ['-c', setting.join('=')])
  const path = join(own, `.s.PGSQL.${port}`)

  async function isReady(): Promise<boolean> {
    const sql = postgres({ path, username: superuser, database: 'postgres', max: 1 })
    try {
      await sql`select`
      return true
    } catch {
      return false
    } finally {
      await sql.end()
    }
  }

  const command = [join(programs, 'postgres'), '-D', files, ...options]
  const server = await startDaemon(command, join(own, 'log'), isReady)
  return {
    port,
    async close(): Promise<void> {
      server.kill('SIGINT')
      await server.exited
      await rm(own, { recursive: true, force: true })
    },
  }
}
