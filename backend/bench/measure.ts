import type { Contestant } from './contestants.ts'
import { cpuSeconds } from './cpu.ts'
import type { BenchDatabase } from './database.ts'
import { sendLoad } from './load.ts'
import type { Work } from './work.ts'

/** What one round of a work came to. */
export type Sample = {
  requestsPerSecond: number
  /** Milliseconds. */
  p50: number
  p99: number
  /** Microseconds of CPU time for a request. */
  serverCpu: number
  postgresCpu: number
}

/** @throws Error if a request is not answered as the work is to be */
export async function checkWork(work: Work, { name, origin, identify }: Contestant): Promise<void> {
  const [request] = await work.makeRequests(identify, origin)
  const { method, path, headers, body } = request!
  const response = await fetch(origin + path, {
    method,
    headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body }),
  })
  const text = await response.text()
  if (response.status !== work.status)
    throw new Error(`${name}, ${work.name}: ${response.status} ${text}`)
  if (work.status === 304) return
  const answer: unknown = JSON.parse(text)
  const count = Array.isArray(answer) ? answer.length : undefined
  if (work.name.startsWith('list') && count !== 20) throw new Error(`${name}: a list of ${count}`)
}

export async function measureWork(
  work: Work,
  { pid, port, origin, identify }: Contestant,
  database: BenchDatabase,
  { directory, connections, seconds }: { directory: string; connections: number; seconds: number },
): Promise<Sample> {
  const requests = await work.makeRequests(identify, origin)
  const before = { server: cpuSeconds(pid), postgres: cpuSeconds(database.pid) }
  const load = await sendLoad(requests, directory, { port, connections, seconds })
  const after = { server: cpuSeconds(pid), postgres: cpuSeconds(database.pid) }
  const perRequest = (used: number) => (used * 1e6) / load.requests
  if (work.writes) await database.tidy()
  return {
    requestsPerSecond: load.requests / load.seconds,
    p50: load.p50,
    p99: load.p99,
    serverCpu: perRequest(after.server - before.server),
    postgresCpu: perRequest(after.postgres - before.postgres),
  }
}

export function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = sorted.length / 2
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle) - 1]!) / 2
}
