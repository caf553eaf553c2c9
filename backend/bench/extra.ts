/** What a bench of single requests does not show: starting, growing, and several processes. */
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { identifications, ours } from './contestants.ts'
import { cpuSeconds, residentMegabytes } from './cpu.ts'
import type { BenchDatabase } from './database.ts'
import { sendLoad } from './load.ts'
import { median } from './measure.ts'
import { startBenchServer, type RunningServer } from './server.ts'
import { secret, works } from './work.ts'

type Place = { database: BenchDatabase; directory: string }

function settings({ database }: Place, more: Record<string, string> = {}): Record<string, string> {
  const address = { DATABASE_URL: database.addresses.ours, BETTER_AUTH_SECRET: secret }
  return { ...ours.env, ...address, ...more }
}

/** Milliseconds from the start of the process to its first answer, the median of some starts. */
export async function measureStarts(place: Place, starts: number): Promise<Record<string, number>> {
  const { directory } = place
  const program = { name: ours.name, command: ours.command }
  const files = await mkdtemp(join(directory, 'embedded-'))
  async function start(env: Record<string, string>, cwd?: string): Promise<number> {
    const server = await startBenchServer({ ...program, env, ...(cwd && { cwd }) }, directory)
    await server.stop()
    return server.startMilliseconds
  }
  async function often(run: () => Promise<number>): Promise<number> {
    const times: number[] = []
    while (times.length < starts) times.push(await run())
    return median(times)
  }
  const embedded = { DRAIN_SECONDS: '0' }
  return {
    'embedded database, first start': await start(embedded, files),
    'embedded database, later': await often(async () => start(embedded, files)),
    'with `DATABASE_URL`': await often(async () => start(settings(place))),
  }
}

const mixed = ['list of 20', 'one task', 'list, unchanged', 'toggle', 'create']

/** Megabytes resident after so many requests of all kinds, and again after so many more. */
export async function measureMemory(
  place: Place,
  counts: number[],
): Promise<{ requests: number; megabytes: number }[]> {
  const { directory, database } = place
  const { token: identify } = await identifications()
  const server = await startBenchServer({ ...ours, env: settings(place) }, directory)
  const found: { requests: number; megabytes: number }[] = []
  let sent = 0
  for (const count of counts) {
    while (sent < count)
      for (const work of works.filter(({ name }) => mixed.includes(name))) {
        const requests = await work.makeRequests(identify, server.origin)
        const seconds = Math.min(3, Math.max(1, Math.round((count - sent) / 50_000)))
        const load = await sendLoad(requests, directory, {
          port: server.port,
          connections: 32,
          seconds,
        })
        sent += load.requests
      }
    found.push({ requests: sent, megabytes: residentMegabytes(server.pid) })
  }
  await server.stop()
  await database.tidy()
  return found
}

/** Microseconds of CPU time for a page of 50, of a list of so many tasks, each page read once. */
export async function measurePages(
  place: Place,
  sizes: number[],
  pages: number,
): Promise<{ tasks: number; serverCpu: number; postgresCpu: number }[]> {
  const { directory, database } = place
  const { token: identify } = await identifications()
  const env = settings(place)
  const found: { tasks: number; serverCpu: number; postgresCpu: number }[] = []
  for (const tasks of sizes) {
    const user = 'writer-1'
    await database.fill(user, tasks)
    const server = await startBenchServer({ ...ours, env }, directory)
    const headers = identify(user)
    const before = { server: cpuSeconds(server.pid), postgres: cpuSeconds(database.pid) }
    let read = 0
    // In another time zone each time: a page that was read before is remembered.
    for (const timeZone of Intl.supportedValuesOf('timeZone')) {
      let path: string | undefined = `/api/tasks?limit=50&tz=${timeZone}`
      while (path !== undefined && read < pages) {
        const response: Response = await fetch(server.origin + path, { headers })
        await response.arrayBuffer()
        if (!response.ok) throw new Error(`A page was answered with ${response.status}`)
        path = /<(.*)>/.exec(response.headers.get('link') ?? '')?.[1]
        read += 1
      }
    }
    const per = (used: number) => (used * 1e6) / read
    found.push({
      tasks,
      serverCpu: per(cpuSeconds(server.pid) - before.server),
      postgresCpu: per(cpuSeconds(database.pid) - before.postgres),
    })
    await server.stop()
    await database.tidy()
  }
  return found
}

/** Requests per second of several processes together, each on a port of its own. */
export async function measureProcesses(
  place: Place,
  counts: number[],
  { connections, seconds }: { connections: number; seconds: number },
): Promise<{ processes: number; work: string; requestsPerSecond: number }[]> {
  const { directory, database } = place
  const { token: identify } = await identifications()
  const found: { processes: number; work: string; requestsPerSecond: number }[] = []
  for (const processes of counts) {
    const servers: RunningServer[] = []
    while (servers.length < processes)
      servers.push(await startBenchServer({ ...ours, env: settings(place) }, directory))
    for (const work of works.filter(({ name }) => ['list of 20', 'toggle'].includes(name))) {
      const loads = await Promise.all(
        servers.map(async ({ port, origin }) =>
          sendLoad(await work.makeRequests(identify, origin), directory, {
            port,
            connections: Math.max(1, Math.floor(connections / processes)),
            seconds,
          }),
        ),
      )
      const rates = loads.map((load) => load.requests / load.seconds)
      found.push({
        processes,
        work: work.name,
        requestsPerSecond: rates.reduce((sum, rate) => sum + rate, 0),
      })
      await database.tidy()
    }
    await Promise.all(servers.map(async (server) => server.stop()))
  }
  return found
}
