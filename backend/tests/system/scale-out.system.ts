import { afterAll, expect, test } from 'bun:test'
import { newUser, type TaskBody } from '../support/api.ts'
import { openConnection } from '../support/connection.ts'
import { freePort } from '../support/daemon.ts'
import { eventually } from '../support/eventually.ts'
import { startHaproxy } from '../support/haproxy.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const pooler = await startPgBouncer(postgres)
const ports = await Promise.all([freePort(), freePort(), freePort(), freePort()])
const balancer = await startHaproxy(ports)

type Server = Awaited<ReturnType<typeof startServer>>

/** Starts a server as docs/operations.md says: pooled, with the direct way for notifications. */
async function start(port: number, place: { database?: string } = {}): Promise<Server> {
  const server = await startServer(
    databaseUrl({ ...pooler, ...place }, 'sslmode=require&prepare=false'),
    {
      DATABASE_URL_UNPOOLED: databaseUrl({ ...postgres, ...place }, 'sslmode=require'),
      PORT: String(port),
      DRAIN_SECONDS: '3',
    },
  )
  await eventually(
    '/ready is 200',
    async () => (await server.request('GET', '/ready')).status === 200,
  )
  return server
}

const servers = await Promise.all(ports.map(async (port) => start(port)))
afterAll(async () => {
  await Promise.all(servers.map(async (server) => server.end('SIGKILL')))
  await balancer.close()
  await pooler.close()
  await postgres.close()
})

/** A client that writes and reads at a steady rate on one kept connection, until it is told to stop. */
async function work({ token }: { token: string }, name: string, stop: AbortSignal) {
  const authorization = `Bearer ${token}`
  const failures: string[] = []
  const written = new Map<string, number>()
  let answered = 0
  let connection = await openConnection(balancer.port)

  async function send(method: string, path: string, json?: unknown): Promise<TaskBody | undefined> {
    try {
      if (connection.isClosed()) connection = await openConnection(balancer.port)
      const { status, text } = await connection.request(method, path, { authorization }, json)
      if (status < 200 || status > 299) throw new Error(`${status} ${text}`)
      answered += 1
      return text === '' ? undefined : (JSON.parse(text) as TaskBody)
    } catch (error) {
      failures.push(`${new Date().toISOString()} ${method} ${path}: ${String(error)}`)
      return undefined
    }
  }

  for (let number = 0; !stop.aborted; number += 1) {
    const title = `${name} ${number}`
    const task = await send('POST', '/api/tasks', { title })
    if (!task) continue
    written.set(title, 1)
    const path = `/api/tasks/${task.id}`
    await send('GET', path)
    if (await send('PATCH', `${path}/complete`)) written.set(title, 2)
    await send('GET', '/api/tasks?limit=5&sort=-created')
    await Bun.sleep(10)
  }
  connection.close()
  return { failures, written, answered }
}

test('four servers are restarted one after the other, and of the requests meanwhile none fails', async () => {
  const user = await newUser()
  const load = new AbortController()
  const working = Array.from({ length: 12 }, async (_, number) =>
    work(user, `client ${number}`, load.signal),
  )
  for (const [index, port] of ports.entries()) {
    expect(await servers[index]!.end('SIGTERM')).toBe(0)
    servers[index] = await start(port)
  }
  load.abort()
  const done = await Promise.all(working)
  const answered = done.reduce((sum, client) => sum + client.answered, 0)
  process.stdout.write(`${answered} requests were answered during the restarts\n`)
  expect(done.flatMap(({ failures }) => failures)).toEqual([])
  const rows = await tasksOf(user.id)
  const expected = done.flatMap(({ written }) => [...written])
  expect(expected.length).toBeGreaterThan(100)
  expect(rows.toSorted(byTitle)).toEqual(expected.toSorted(byTitle))
})

const byTitle = ([one]: [string, number], [other]: [string, number]) => (one < other ? -1 : 1)

/** Title and version of each, past the API. */
async function tasksOf(user: string): Promise<[string, number][]> {
  const rows = await postgres.admin<{ title: string; version: number }[]>`
    select title, version::int from tasks where user_id = ${user}`
  return rows.map(({ title, version }) => [title, version])
}
