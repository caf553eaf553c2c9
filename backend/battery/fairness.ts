import { newUser, type TaskBody } from '../tests/support/api.ts'
import { databaseUrl } from '../tests/support/postgres.ts'
import { startServer } from '../tests/support/server.ts'
import { fillList, mostMemoryOf, sendAndNotRead } from '../tests/support/greedy.ts'
import { createClient } from './client.ts'
import type { Battery } from './battery.ts'

type User = Awaited<ReturnType<typeof newUser>>

const greedyTasks = 3_000 // a list of 26 MB
const atATime = { lists: 10, unread: 8, writes: 40 }
const modestUsers = 12
const duration = { short: 8_000, long: 60_000 } // ms
const betweenRequests = 50 // ms
const longestWait = 5_000 // ms, of a modest user
const mostMemory = 1_000 // MB

/**
 * A greedy user asks for all that one user can, many at a time, and reads as badly as one can; modest
 * users do their work. Not one of the modest ones' requests may fail.
 */
export async function fairness({ postgres, pgbouncer, report, short }: Battery): Promise<void> {
  const database = await postgres.createDatabase()
  const through = `sslmode=verify-full&sslrootcert=${postgres.certificates.authority}&prepare=false`
  const server = await startServer(databaseUrl({ port: pgbouncer.port, database }, through), {
    // More than a flood of writes can create.
    MAX_TASKS_PER_USER: '1000000',
  })
  const admin = postgres.connectAsSuperuser(database)
  const client = createClient(report, server.whyFailed)
  const greedy = await newUser()
  await fillList(admin, greedy.id, greedyTasks)
  const endAt = performance.now() + (short ? duration.short : duration.long)
  const isGoingOn = () => performance.now() < endAt

  await Promise.all([
    ...greed(server.origin, greedy, isGoingOn, (status) => {
      report.count(`greedy: ${status}`)
      if (![200, 201, 429, 503].includes(status)) report.violation(`the greedy user got ${status}`)
    }),
    ...Array.from({ length: modestUsers }, async () =>
      workModestly(client, report, server.origin, isGoingOn),
    ),
  ])

  const memory = Math.round(await mostMemoryOf(server.pid))
  report.count('greedy: megabytes that the server took at most', memory)
  if (memory > mostMemory) report.violation(`the server took ${memory} MB with a greedy user`)
  await admin.end()
  await server.end()
}

/** What a greedy user does until the end. The status of each answer is told. */
function greed(
  origin: string,
  user: User,
  isGoingOn: () => boolean,
  tell: (status: number) => void,
): Promise<void>[] {
  async function keep(method: string, path: string, json?: object): Promise<void> {
    while (isGoingOn()) {
      const response = await fetch(origin + path, {
        method,
        headers: { authorization: `Bearer ${user.token}`, 'content-type': 'application/json' },
        ...(json && { body: JSON.stringify(json) }),
      })
      await response.arrayBuffer()
      tell(response.status)
      if (response.status >= 400) await Bun.sleep(betweenRequests)
    }
  }

  async function keepUnread(): Promise<void> {
    while (isGoingOn()) {
      const socket = sendAndNotRead(origin, 'GET', '/api/tasks', user)
      await Bun.sleep(4_000)
      socket.destroy()
    }
  }

  const lists = ['/api/tasks', '/api/tasks?sort=-title', '/api/tasks?q=😀', '/api/tasks/changes']
  return [
    ...Array.from({ length: atATime.lists }, async (_, index) =>
      keep('GET', lists[index % lists.length]!),
    ),
    ...Array.from({ length: atATime.unread }, keepUnread),
    ...Array.from({ length: atATime.writes }, async () =>
      keep('POST', '/api/tasks', { title: 'More' }),
    ),
  ]
}

/** Creates, toggles, reads and lists. Every answer but the right one is a violation. */
async function workModestly(
  client: ReturnType<typeof createClient>,
  report: Battery['report'],
  origin: string,
  isGoingOn: () => boolean,
): Promise<void> {
  const { token } = await newUser()

  async function ask<Body>(method: string, path: string, json?: object): Promise<Body | undefined> {
    const began = performance.now()
    const outcome = await client.ask<Body>(origin, method, path, { token, json })
    const took = performance.now() - began
    report.count('modest requests')
    if (took > longestWait) report.violation(`${method} ${path} took ${Math.round(took)} ms`)
    await Bun.sleep(betweenRequests)
    return outcome === 'lost' ? undefined : outcome.body
  }

  while (isGoingOn()) {
    const task = await ask<TaskBody>('POST', '/api/tasks', {
      title: 'Mine',
      description: 'x'.repeat(1_000), // so that the list comes to be a large answer
    })
    if (task === undefined) continue
    await ask('PATCH', `/api/tasks/${task.id}/complete`)
    await ask('GET', `/api/tasks/${task.id}`)
    await ask('GET', '/api/tasks')
    await ask('GET', '/api/tasks/changes')
  }
}
