import { closeSync, openSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { secret } from '../tests/support/api.ts'
import { freePort } from '../tests/support/daemon.ts'
import { eventually } from '../tests/support/eventually.ts'
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

/** Starts a program and waits until it answers. Its output goes to a file, as under a service manager. */
export async function startProgram(
  { name, command, env }: Pick<Peer, 'name' | 'command' | 'env'>,
  cwd = repository,
) {
  const port = await freePort()
  const log = join(tmpdir(), `${port}.log`)
  const output = openSync(log, 'a')
  const began = performance.now()
  const child = Bun.spawn(command, {
    cwd,
    env: { PATH: process.env['PATH'], PORT: String(port), HOST: '127.0.0.1', ...env },
    stdin: 'ignore',
    stdout: output,
    stderr: output,
  })
  closeSync(output)
  const origin = `http://127.0.0.1:${port}`
  await eventually(`${name} answers`, async () => {
    if (child.exitCode !== null) throw new Error(`${name}: ${await Bun.file(log).text()}`)
    const response = await fetch(`${origin}/health`).catch(() => undefined)
    return response?.ok
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
