import type { Contestant } from './contestants.ts'
import { cpuSeconds } from './cpu.ts'
import type { BenchDatabase } from './database.ts'
import { sendLoad, type LoadOptions } from './load.ts'
import type { Work } from './work.ts'

/** What one round of a work came to. Times are milliseconds, CPU times microseconds for a request. */
export type Sample = Awaited<ReturnType<typeof measureWork>>

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
  options: LoadOptions,
) {
  const requests = await work.makeRequests(identify, origin)
  const { cpu, ...load } = await costOf([pid, database.pid], async () =>
    sendLoad(requests, port, options),
  )
  if (work.writes) await database.tidy()
  return { ...load, serverCpu: cpu[0]!, postgresCpu: cpu[1]! }
}

/** Microseconds of CPU time that processes and their children used for each request meanwhile. */
export async function costOf<Done extends { requests: number }>(
  pids: number[],
  run: () => Promise<Done>,
): Promise<Done & { cpu: number[] }> {
  const before = pids.map(cpuSeconds)
  const done = await run()
  const used = pids.map((pid, index) => cpuSeconds(pid) - before[index]!)
  return { ...done, cpu: used.map((seconds) => (seconds * 1e6) / done.requests) }
}

export function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = sorted.length / 2
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle) - 1]!) / 2
}
