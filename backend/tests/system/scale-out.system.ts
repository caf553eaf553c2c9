import { afterAll, expect, test } from 'bun:test'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { parseDatabaseUrl } from '../../db/address.ts'
import { connect } from '../../db/pool.ts'
import { migrations } from '../../db/migrate.ts'
import { newUser, type TaskBody } from '../support/api.ts'
import { openConnection } from '../support/connection.ts'
import { freePort } from '../support/daemon.ts'
import { openEvents } from '../support/events.ts'
import { eventually } from '../support/eventually.ts'
import { startHaproxy } from '../support/haproxy.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { requestTo, startServer } from '../support/server.ts'

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
const idler = await start(0)
const idle = await openConnection(Number(new URL(idler.origin).port))
await idle.request('GET', '/health', {})
const idleSince = performance.now()
afterAll(async () => {
  await Promise.all([...servers, idler].map(async (server) => server.end('SIGKILL')))
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

test('four servers are restarted one after the other, and no request fails meanwhile', async () => {
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
    select title, version::int from todo_api.tasks where user_id = ${user}`
  return rows.map(({ title, version }) => [title, version])
}

test('what one server writes, each other one shows at once, and no 304 hides it', async () => {
  const { token } = await newUser()
  const etags: string[] = []
  for (const [index, writer] of servers.entries()) {
    const json = { title: `By server ${index}` }
    const created = await writer.request<TaskBody>('POST', '/api/tasks', { token, json })
    expect(created.status).toBe(201)
    for (const reader of servers) {
      const fresh = await reader.request<TaskBody[]>('GET', '/api/tasks', {
        token,
        headers: { 'if-none-match': etags.at(-1) ?? '"none"' },
      })
      expect(fresh.status).toBe(200)
      expect(fresh.body.at(-1)).toEqual(created.body)
    }
    // And its ETag is every server's.
    const [first, ...others] = await Promise.all(
      servers.map(async ({ request }) => request('GET', '/api/tasks', { token })),
    )
    etags.push(first!.headers.get('etag')!)
    expect(others.map(({ headers }) => headers.get('etag'))).toEqual(
      others.map(() => etags.at(-1)!),
    )
    for (const { request } of servers) {
      const headers = { 'if-none-match': etags.at(-1)! }
      expect((await request('GET', '/api/tasks', { token, headers })).status).toBe(304)
    }
  }
  expect(new Set(etags).size).toBe(servers.length)
})

test('four servers that start at once on an empty database migrate it once, and later ones do not', async () => {
  const name = await postgres.createDatabase()
  const fresh = connect(
    parseDatabaseUrl(databaseUrl({ ...postgres, database: name }, 'sslmode=require')),
  )
  const migrated = async () =>
    fresh.query<{ name: string; at: string }>`
      select name, applied_at::text as at from todo_api.schema_migrations order by name`
  try {
    const first = await Promise.all(ports.map(async () => start(0, { database: name })))
    const applied = await migrated()
    expect(applied.map((row) => row.name)).toEqual(migrations.map((migration) => migration.name))
    const later = await start(0, { database: name })
    expect(await migrated()).toEqual(applied)
    await Promise.all([...first, later].map(async (server) => server.end('SIGKILL')))
  } finally {
    await fresh.close()
  }
})

test('the connections to PostgreSQL are those of the pool, and one per server that has event streams', async () => {
  const { token } = await newUser()
  const headers = { authorization: `Bearer ${token}` }
  const listening = async () => countSessions(`query ilike 'listen%' and state = 'idle'`)
  const streams = await Promise.all(
    servers.map(async ({ origin }) => openEvents(`${origin}/api/tasks/events`, headers)),
  )
  await eventually('each server listens', async () => (await listening()) === servers.length)

  // More requests than all processes have connections: 4 times 10 to the pooler, which has 20.
  const release = await postgres.hold('lock table todo_api.tasks in access exclusive mode')
  const answers = servers.flatMap(({ request }) =>
    // Pages are read one by one; whole lists would share a statement.
    Array.from({ length: 15 }, async (_, index) =>
      request('GET', `/api/tasks?limit=${index + 1}`, { token }),
    ),
  )
  try {
    await eventually('the pool is full', async () => (await postgres.waiting()) === poolSize)
    await eventually(
      'each server has one connection past the pooler',
      async () => (await countSessions('true')) === poolSize + servers.length,
      3_000,
    )
  } finally {
    await release()
  }
  for (const { status } of await Promise.all(answers)) expect(status).toBe(200)
  for (const stream of streams) stream.close()
  // A stream through a balancer ends with the next sign of life on it: the client's end tells no more.
  await eventually('nobody listens any more', async () => (await listening()) === 0, 2 * heartbeat)
})

const heartbeat = 15_000 // ms
const poolSize = 20 // PgBouncer's default_pool_size

/** The sessions of the servers, pooled and not, for which a condition holds. */
async function countSessions(condition: string): Promise<number> {
  const [row] = await postgres.admin.unsafe<{ count: number }[]>(
    `select count(*)::int from pg_stat_activity where usename = '${owner.name}' and datname = 'neondb' and ${condition}`,
  )
  return row!.count
}

test('an event stream through the balancer hears of what each server writes', async () => {
  const { token } = await newUser()
  const stream = await openEvents(`${balancer.origin}/api/tasks/events`, {
    authorization: `Bearer ${token}`,
  })
  expect(stream.status).toBe(200)
  for (const [index, { request }] of servers.entries()) {
    await request('POST', '/api/tasks', { token, json: { title: `By server ${index}` } })
    await stream.received(index + 1)
  }
  expect(stream.events.map(({ data }) => (data as TaskBody).title)).toEqual(
    servers.map((_, index) => `By server ${index}`),
  )
  stream.close()
})

test('the balancer sends a write once, and again only with an Idempotency-Key, and a read again', async () => {
  // Servers that are ready, take each request, and break off before they answer.
  const requests: string[] = []
  const breaking = ports.map(() =>
    createServer((socket) =>
      socket.once('data', (bytes) => {
        const [line = ''] = bytes.toString().split('\r\n')
        if (line.includes('/ready'))
          return socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
        requests.push(line)
        return socket.destroy()
      }),
    ).listen(0, '127.0.0.1'),
  )
  await Promise.all(breaking.map(async (server) => once(server, 'listening')))
  const before = await startHaproxy(
    breaking.map((server) => (server.address() as AddressInfo).port),
  )
  async function timesSent(method: string, headers: Record<string, string> = {}): Promise<number> {
    requests.length = 0
    const connection = await openConnection(before.port)
    const json = method === 'GET' ? undefined : { title: 'Once' }
    const { status } = await connection.request(method, '/api/tasks', headers, json)
    connection.close()
    expect(status).toBe(502)
    return requests.length
  }
  try {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
      expect([method, await timesSent(method)]).toEqual([method, 1])
    expect(await timesSent('POST', { 'idempotency-key': crypto.randomUUID() })).toBe(4)
    expect(await timesSent('GET')).toBe(4)
  } finally {
    await before.close()
    for (const server of breaking) server.close()
  }
})

test.each([
  '/public/../api/tasks',
  '/public/%2e%2E/api/tasks',
  '/public/.%2e/api/tasks',
  '/public\\..\\api/tasks',
  '/./api/tasks',
  '/api/tasks/..',
])('the balancer refuses %s, which a server would take for another path', async (path) => {
  const connection = await openConnection(balancer.port)
  expect((await connection.request('GET', path, {})).status).toBe(400)
  connection.close()
})

test('the balancer lets dots through that are part of a name', async () => {
  const connection = await openConnection(balancer.port)
  expect((await connection.request('GET', '/health?next=/../x', {})).status).toBe(200)
  expect((await connection.request('GET', '/..health', {})).status).toBe(404)
  connection.close()
})

test('while the database is away, the balancer passes on what the servers say of it', async () => {
  const { token } = await newUser()
  const request = requestTo(balancer.origin)
  const list = async () => request('GET', '/api/tasks', { token })
  await postgres.stop()
  try {
    // While the balancer has not noticed, and after it has.
    let after = 0
    while (after < 20) {
      if ((await balancer.log()).includes('backend ready has no server available')) after += 1
      const answer = await list()
      expect(answer.status).toBe(503)
      expect(answer.body).toMatchObject({ code: 'database_unavailable' })
      expect(answer.headers.get('retry-after')).toBe('1')
    }
  } finally {
    await postgres.start()
  }
  await eventually('the list is there again', async () => (await list()).status === 200, 5_000)
})

test('a connection that a load balancer keeps for a minute is still there after it', async () => {
  // It has been idle since this file began.
  await Bun.sleep(Math.max(0, 62_000 - (performance.now() - idleSince)))
  expect((await idle.request('GET', '/health', {})).status).toBe(200)
}, 90_000)
