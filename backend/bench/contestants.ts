import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { secret } from '../tests/support/api.ts'
import { freePort, startDaemon } from '../tests/support/daemon.ts'
import { repository } from '../tests/support/server.ts'
import type { DatabaseName } from './database.ts'
import type { Peer } from './peers.ts'
import { identifyBy } from './work.ts'

/** A server that takes part, running. */
export type Contestant = Awaited<ReturnType<typeof startContestant>>

/** This server as production runs it: everything is on, and the limits are too high to be met. */
export const ours: Peer = {
  name: 'Todo API (this server)',
  note: 'Everything on, as `bun run start` has it.',
  database: 'ours',
  command: [process.execPath, join(import.meta.dir, '../main.ts')],
  env: {
    NODE_ENV: 'production',
    RATE_LIMIT_PER_USER: '9999999',
    RATE_LIMIT_PER_ADDRESS: '9999999',
    DRAIN_SECONDS: '0',
  },
  identifies: 'token',
}

/** Starts a server on the database that it takes. */
export async function startContestant(peer: Peer, addresses: Record<DatabaseName, string>) {
  const env = {
    ...peer.env,
    DATABASE_URL: addresses[peer.database],
    BETTER_AUTH_SECRET: secret,
  }
  const server = await startProgram({ ...peer, env })
  return { ...server, note: peer.note, identify: identifyBy[peer.identifies] }
}

/** Starts a program and waits until it answers. */
export async function startProgram(
  { name, command, env }: Pick<Peer, 'name' | 'command' | 'env'>,
  cwd = repository,
) {
  const port = await freePort()
  const origin = `http://127.0.0.1:${port}`
  const began = performance.now()
  const isUp = async () => (await fetch(`${origin}/health`).catch(() => undefined))?.ok ?? false
  const child = await startDaemon(command, join(tmpdir(), `${port}.log`), isUp, {
    behind: ['setpriv'],
    cwd,
    env: { PATH: process.env['PATH'], PORT: String(port), HOST: '127.0.0.1', ...env },
  })
  return {
    name,
    pid: child.pid,
    port,
    origin,
    /** From its start to its first answer, in milliseconds. */
    startMilliseconds: performance.now() - began,
    async stop(): Promise<void> {
      child.kill('SIGTERM')
      await child.exited
    },
  }
}
