/** What a bench of single requests does not show: starting, growing, and several processes. */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ours, startContestant, startProgram } from './contestants.ts'
import { residentMegabytes } from './cpu.ts'
import type { BenchDatabase } from './database.ts'
import { sendLoad, type LoadOptions } from './load.ts'
import { costOf, measureWork, median, type Sample } from './measure.ts'
import type { Rows } from './report.ts'
import { identifyBy, tasksPerUser, usersCount, works } from './work.ts'

/** Milliseconds from the start of the process to its first answer, the median of some starts. */
export async function measureStarts({ addresses }: BenchDatabase, starts: number) {
  const files = await mkdtemp(join(tmpdir(), 'embedded-'))
  const embedded = async () => startProgram({ ...ours, env: { DRAIN_SECONDS: '0' } }, files)
  return {
    'embedded database, first start': await often(1, embedded),
    'embedded database, later': await often(starts, embedded),
    'with `DATABASE_URL`': await often(starts, async () => startContestant(ours, addresses)),
  }
}

async function often(times: number, start: () => ReturnType<typeof startProgram>) {
  const found: number[] = []
  while (found.length < times) {
    const server = await start()
    await server.stop()
    found.push(server.startMilliseconds)
  }
  return median(found)
}

const mixed = ['list of 20', 'one task', 'list, unchanged', 'toggle', 'create']

/** Rows of requests of all kinds and the megabytes that are resident after them. */
export async function measureMemory(database: BenchDatabase, counts: number[]) {
  const server = await startContestant(ours, database.addresses)
  const { identify, origin, port, pid } = server
  const found: Rows = []
  let sent = 0
  for (const count of counts) {
    while (sent < count)
      for (const work of works.filter(({ name }) => mixed.includes(name))) {
        const seconds = Math.min(3, Math.max(1, Math.round((count - sent) / 50_000)))
        const requests = await work.makeRequests(identify, origin)
        sent += (await sendLoad(requests, port, { connections: 32, seconds })).requests
      }
    found.push([sent, residentMegabytes(pid)])
  }
  await server.stop()
  await database.tidy()
  return found
}

/** Rows of a list's tasks and microseconds of CPU time for a page of 50 of them, each page read once. */
export async function measurePages(database: BenchDatabase, sizes: number[], most: number) {
  const user = 'writer-1'
  const headers = identifyBy.token(user)
  const found: Rows = []
  for (const tasks of sizes) {
    await database.fill(user, tasks)
    const server = await startContestant(ours, database.addresses)
    const cost = await costOf([server.pid, database.pid], async () => {
      let requests = 0
      // In another time zone each time: a page that was read before is remembered.
      for (const timeZone of Intl.supportedValuesOf('timeZone')) {
        let path: string | undefined = `/api/tasks?limit=50&tz=${timeZone}`
        for (; path !== undefined && requests < most; requests += 1) {
          const response: Response = await fetch(server.origin + path, { headers })
          await response.arrayBuffer()
          if (!response.ok) throw new Error(`A page was answered with ${response.status}`)
          path = /<(.*)>/.exec(response.headers.get('link') ?? '')?.[1]
        }
      }
      return { requests }
    })
    found.push([tasks, ...cost.cpu])
    await server.stop()
    await database.tidy()
  }
  return found
}

/** Rows of a work, the tasks of all users together, and CPU time for a request, the median of some rounds. */
export async function measureCrowds(
  database: BenchDatabase,
  thousands: number[],
  { connections, seconds }: LoadOptions,
) {
  const found: Rows = []
  let users = 0
  for (const more of thousands) {
    await database.crowd(more)
    users += more * 1_000
    const server = await startContestant(ours, database.addresses)
    const crowded = works.filter(({ name }) => mixed.includes(name))
    for (const work of crowded) await measureWork(work, server, database, { connections, seconds })
    for (const work of crowded) {
      const samples: Sample[] = []
      while (samples.length < 3)
        samples.push(await measureWork(work, server, database, { connections, seconds }))
      const typical = (figure: 'serverCpu' | 'postgresCpu') =>
        median(samples.map((sample) => sample[figure]))
      const tasks = (users + usersCount) * tasksPerUser
      found.push([work.name, tasks, typical('serverCpu'), typical('postgresCpu')])
    }
    await server.stop()
  }
  return found
}

/** Rows of a work, processes, each on a port of its own, and requests per second of all together. */
export async function measureProcesses(
  database: BenchDatabase,
  counts: number[],
  { connections, seconds }: LoadOptions,
) {
  const found: Rows = []
  for (const processes of counts) {
    const starting = Array.from({ length: processes }, async () =>
      startContestant(ours, database.addresses),
    )
    const servers = await Promise.all(starting)
    const each = { connections: Math.max(1, Math.floor(connections / processes)), seconds }
    for (const { name: work, makeRequests } of works.filter(({ name }) =>
      ['list of 20', 'toggle'].includes(name),
    )) {
      const loads = await Promise.all(
        servers.map(async ({ port, origin, identify }) =>
          sendLoad(await makeRequests(identify, origin), port, each),
        ),
      )
      const requestsPerSecond = loads.reduce((sum, load) => sum + load.requestsPerSecond, 0)
      found.push([work, processes, requestsPerSecond])
      await database.tidy()
    }
    await Promise.all(servers.map(async (server) => server.stop()))
  }
  return found
}
