import { join } from 'node:path'
import type { BenchDatabase } from './database.ts'
import { peers, type Peer } from './peers.ts'
import { startBenchServer, type RunningServer } from './server.ts'
import { makeTokens, secret, type Identify } from './work.ts'

/** A server that takes part, and how it is told who asks. */
export type Contestant = RunningServer & { note: string; identify: Identify }

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

/** Starts this server and its peers on the same PostgreSQL. */
export async function startContestants(
  database: BenchDatabase,
  directory: string,
): Promise<Contestant[]> {
  const identifyBy = await identifications()
  const contestants: Contestant[] = []
  for (const { note, identifies, database: name, env, ...program } of [ours, ...peers]) {
    const settings = { ...env, DATABASE_URL: database.addresses[name], BETTER_AUTH_SECRET: secret }
    const server = await startBenchServer({ ...program, env: settings }, directory)
    contestants.push({ ...server, note, identify: identifyBy[identifies] })
  }
  return contestants
}

export async function identifications(): Promise<Record<'token' | 'header', Identify>> {
  const tokens = await makeTokens()
  return {
    token: (user) => ({ authorization: `Bearer ${tokens.get(user)}` }),
    header: (user) => ({ 'x-user': user }),
  }
}
