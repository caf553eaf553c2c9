import { newUser, type TaskBody } from '../tests/support/api.ts'
import { eventually } from '../tests/support/eventually.ts'
import { openEvents } from '../tests/support/events.ts'
import { databaseUrl } from '../tests/support/postgres.ts'
import { startServer } from '../tests/support/server.ts'
import type { Battery } from './battery.ts'
import { createRandom } from '../tests/support/random.ts'

const pages = 8 // at a time
const cycles = { short: 100, long: 1_500 } // of each page
const longestLook = 20 // ms, after which a page is gone at the latest
const mostSessions = 11 // the pool's, and the one for notifications
const betweenCounts = 100 // ms

/**
 * Event streams that are opened and dropped at once, as pages do that are reloaded or mounted twice:
 * nothing of them may stay behind in PostgreSQL, and the next stream works.
 */
export async function quickStreams({ postgres, report, seed, short }: Battery): Promise<void> {
  const database = await postgres.createDatabase()
  const server = await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))
  const next = createRandom(seed)
  const user = await newUser()
  const url = `${server.origin}/api/tasks/events`
  const headers = { authorization: `Bearer ${user.token}` }

  async function sessions(): Promise<number> {
    const rows = await postgres.admin`select from pg_stat_activity where datname = ${database}`
    return rows.length
  }

  async function visit(): Promise<void> {
    for (let cycle = 0; cycle < cycles[short ? 'short' : 'long']; cycle += 1) {
      const signal = AbortSignal.timeout(next(longestLook))
      // It may be gone before it is answered.
      const status = await fetch(url, { headers, signal }).then(
        (response) => response.status,
        () => undefined,
      )
      report.count('streams dropped')
      if (status !== undefined && status !== 200)
        report.violation(`a stream of events is answered with ${status}`)
    }
  }

  let isVisited = true
  let most = 0
  const counting = (async () => {
    while (isVisited) {
      most = Math.max(most, await sessions())
      await Bun.sleep(betweenCounts)
    }
  })()
  await Promise.all(Array.from({ length: pages }, visit))
  isVisited = false
  await counting
  report.progress(`streams opened and dropped at once: ${most} sessions at most`)
  if (most > mostSessions) report.violation(`${most} sessions of one server in PostgreSQL`)

  const stream = await openEvents(url, headers)
  const json = { title: 'After all that' }
  const { body } = await server.request<TaskBody>('POST', '/api/tasks', { ...user, json })
  await eventually('the next stream hears of a task', async () =>
    stream.events.some(({ data }) => (data as TaskBody).id === body.id),
  ).catch((error: Error) => report.violation(error.message))
  stream.close()
  if ((await server.end()) !== 0) report.violation('the server does not stop')
  await eventually('no session is left', async () => (await sessions()) === 0).catch(
    (error: Error) => report.violation(error.message),
  )
  await postgres.admin.unsafe(`drop database ${database} with (force)`)
}
