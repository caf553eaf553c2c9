import { afterAll, afterEach, describe, expect, test } from 'bun:test'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newUser } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents } from '../support/events.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
/** Past what is done to the database of the servers. */
const admin = postgres.connectAsSuperuser('postgres')
const url = databaseUrl(postgres, 'sslmode=require')
afterAll(async () => {
  await admin.end()
  await postgres.close()
})

/** How often PostgreSQL has refused somebody who signed in. */
async function refusals(): Promise<number> {
  const log = await readFile(join(postgres.directory, 'log'), 'utf8')
  return log.split('FATAL:').length - 1 - log.split('terminating connection').length + 1
}

async function refusalsDuring(action: () => Promise<unknown>): Promise<number> {
  const before = await refusals()
  await action()
  return (await refusals()) - before
}

/** Ends the sessions of the servers, those that are just signing in, too. */
async function terminate(): Promise<void> {
  await eventually('nobody is left', async () => {
    const children = await postgres.children()
    const ended = await admin`
      select pg_terminate_backend(pid) from pg_stat_activity
      where backend_type = 'client backend' and (usename = ${owner.name} or usename is null)`
    const sessions = await admin<{ pid: number }[]>`select pid from pg_stat_activity`
    // A client that is still signing in has a process already, and no session yet.
    const known = new Set(sessions.map(({ pid }) => pid))
    return ended.length === 0 && children.every((pid) => known.has(pid))
  })
}

const setPassword = async (password: string) =>
  admin.unsafe(`alter role ${owner.name} password '${password}'`)

const ways: { sqlState: string; refuse: () => Promise<unknown>; accept: () => Promise<unknown> }[] =
  [
    {
      sqlState: '28P01',
      async refuse() {
        await setPassword('another')
        await terminate()
      },
      accept: async () => setPassword(owner.password),
    },
    {
      sqlState: '3D000',
      async refuse() {
        await postgres.admin.end()
        await admin.unsafe('alter database neondb allow_connections false')
        await terminate()
        await eventually('nobody is in the database', async () =>
          admin.unsafe('alter database neondb rename to elsewhere').then(
            () => true,
            () => false,
          ),
        )
      },
      async accept() {
        await admin.unsafe('alter database elsewhere rename to neondb')
        await admin.unsafe('alter database neondb allow_connections true')
      },
    },
    {
      sqlState: '53300',
      async refuse() {
        await admin.unsafe(`alter role ${owner.name} connection limit 0`)
        await terminate()
      },
      accept: async () => admin.unsafe(`alter role ${owner.name} connection limit -1`),
    },
    {
      sqlState: '57P03',
      async refuse() {
        process.kill(postgres.pid, 'SIGTERM') // it lets go who is there, and nobody in
        await terminate()
      },
      async accept() {
        await postgres.stop()
        await postgres.start()
      },
    },
  ]

describe.each(ways)('a sign-in that is refused with $sqlState', ({ sqlState, refuse, accept }) => {
  let server: Awaited<ReturnType<typeof startServer>>
  afterEach(async () => {
    await server.end('SIGKILL')
  })

  test('is tried about once a second, and works again at once', async () => {
    server = await startServer(url)
    const { token } = await newUser()
    const ask = async () => server.request('GET', '/api/tasks', { token })
    const stream = await openEvents(`${server.origin}/api/tasks/events`, {
      authorization: `Bearer ${token}`,
    })
    await Promise.all(Array.from({ length: 20 }, ask))
    await refuse()

    const seconds = 4
    const whileIdle = await refusalsDuring(async () => Bun.sleep(seconds * 1_000))
    let slowest = 0
    let asked = 0
    async function keepAsking(): Promise<void> {
      const until = performance.now() + seconds * 1_000
      while (performance.now() < until) {
        const started = performance.now()
        const { status, body } = await ask()
        slowest = Math.max(slowest, performance.now() - started)
        asked += 1
        expect({ status, body }).toMatchObject({
          status: 503,
          body: { code: 'database_unavailable' },
        })
      }
    }
    const whileAsked = await refusalsDuring(async () =>
      Promise.all(Array.from({ length: 4 }, keepAsking)),
    )
    process.stdout.write(
      `${sqlState}: ${whileIdle} refused in ${seconds} s without requests, ${whileAsked} with ${asked}, the slowest of ${Math.round(slowest)} ms\n`,
    )
    expect(whileIdle).toBeLessThanOrEqual(seconds + 2)
    expect(whileAsked).toBeLessThanOrEqual(seconds + 2)
    expect(slowest).toBeLessThan(4_000) // of a deadline of 5 s: nobody waits for it

    await accept()
    await eventually('it is let in', async () => (await ask()).status === 200, 5_000)
    for (const { status } of await Promise.all(Array.from({ length: 20 }, ask)))
      expect(status).toBe(200)
    await server.request('POST', '/api/tasks', { token, json: { title: 'News' } })
    await stream.received(1)
    stream.close()
  })
})

test('no connection is made while nobody asks for one', async () => {
  const server = await startServer(url)
  const { token } = await newUser()
  const ask = async () => (await server.request('GET', '/api/tasks', { token })).status
  await Promise.all(Array.from({ length: 20 }, ask))
  await setPassword('another')
  await terminate()
  expect(await ask()).toBe(503)
  expect(await refusalsDuring(async () => Bun.sleep(3_000))).toBe(0)
  await setPassword(owner.password)
  expect(await ask()).toBe(200)
  await server.end()
})

test('requests share the existing connections if the database gives no more', async () => {
  await admin.unsafe(`alter role ${owner.name} connection limit 2`)
  const server = await startServer(url)
  const { token } = await newUser()
  // Pages are read one by one; whole lists would share a statement.
  const ask = async (_: unknown, index: number) =>
    (await server.request('GET', `/api/tasks?limit=${index + 1}`, { token })).status
  const statuses: number[] = []
  const refused = await refusalsDuring(async () => {
    for (let round = 0; round < 10; round += 1)
      statuses.push(...(await Promise.all(Array.from({ length: 30 }, ask))))
  })
  expect(statuses.filter((status) => status !== 200)).toEqual([])
  expect(refused).toBeGreaterThan(0)
  expect(refused).toBeLessThanOrEqual(10)
  await server.end()
  await admin.unsafe(`alter role ${owner.name} connection limit -1`)
})
