import { afterAll, afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { cancelledWithin } from '../../db/connection.ts'
import { newUser, type Answer, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const pooler = await startPgBouncer(postgres)
afterAll(async () => {
  await pooler.close()
  await postgres.close()
})

const deadline = 5_000 // ms
const slack = 1_000 // ms

function expectUnavailable({ status, headers, body }: Answer): void {
  expect(status).toBe(503)
  expect(body).toMatchObject({ code: 'database_unavailable' })
  expect(headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
}

async function titlesOf(user: string): Promise<string[]> {
  const rows = await postgres.admin<{ title: string }[]>`
    select title from todo_api.tasks where user_id = ${user} order by title`
  return rows.map(({ title }) => title)
}

describe.each([
  ['PostgreSQL', databaseUrl(postgres, 'sslmode=require')],
  ['PgBouncer', databaseUrl(pooler, 'sslmode=require&prepare=false')],
])('a server that reaches its database through %s', (_, url) => {
  let server: Awaited<ReturnType<typeof startServer>>
  beforeEach(async () => {
    // More than the load can create.
    server = await startServer(url, { MAX_TASKS_PER_USER: '1000000' })
  })
  afterEach(async () => server.end('SIGKILL'))

  async function timed(answering: Promise<Answer>) {
    const started = performance.now()
    return { answer: await answering, ms: performance.now() - started }
  }

  test('answers 503 in time while the database is frozen, and 200 as soon as it is not', async () => {
    const { token } = await newUser()
    const ask = async () => server.request('GET', '/api/tasks', { token })
    // Some connections are open already, and some of the requests need another.
    await Promise.all([ask(), ask(), ask()])
    const thaw = await postgres.freeze()
    try {
      const asked = Array.from({ length: 30 }, async () => timed(ask()))
      const alive = await timed(server.request('GET', '/health'))
      expect(alive.answer.status).toBe(200)
      expect(alive.ms).toBeLessThan(slack)
      for (const { answer, ms } of await Promise.all(asked)) {
        expectUnavailable(answer)
        expect(ms).toBeLessThan(deadline + slack)
      }
    } finally {
      thaw()
    }
    const thawedAt = performance.now()
    await eventually('an answer of 200', async () => (await ask()).status === 200)
    expect(performance.now() - thawedAt).toBeLessThan(2_000)
    const after = await Promise.all(Array.from({ length: 30 }, ask))
    expect(after.map(({ status }) => status)).toEqual(after.map(() => 200))
  })

  test('loses nothing that it confirmed when the database crashes, and works as before', async () => {
    const { id: user, token } = await newUser()
    const confirmed = new Set<string>()
    const load = new AbortController()
    let failures = 0

    async function keepCreating(): Promise<void> {
      while (!load.signal.aborted) {
        const title = crypto.randomUUID()
        const { answer, ms } = await timed(
          server.request('POST', '/api/tasks', { token, json: { title } }),
        )
        expect(ms).toBeLessThan(deadline + slack)
        if (answer.status === 201) confirmed.add(title)
        else {
          expectUnavailable(answer)
          failures += 1
        }
      }
    }
    async function createSome(): Promise<void> {
      const enough = confirmed.size + 300
      await eventually('tasks are created', async () => confirmed.size > enough)
    }

    // Three times as many as there are connections.
    const clients = Array.from({ length: 30 }, keepCreating)
    await createSome()
    for (let crash = 0; crash < 3; crash += 1) {
      const failuresBefore = failures
      // A statement that waits for a row as long as it takes is one that the crash is sure to meet.
      const sql = postgres.connectAsSuperuser('neondb')
      const session = await sql.reserve()
      await session`begin`
      await session`select from todo_api.task_lists where user_id = ${user} for update`
      await eventually(
        'a write waits',
        async () => (await postgres.waiting({ longerThan: 500 })) > 0,
      )
      await postgres.crash()
      await eventually('the crash is noticed', async () => failures > failuresBefore)
      // Not before: with its end the row would be free, and the write done before the crash has spread.
      await sql.end({ timeout: 0 })
      await createSome()
    }
    load.abort()
    await Promise.all(clients)
    const kept = new Set(await titlesOf(user))
    expect([...confirmed].filter((title) => !kept.has(title))).toEqual([])

    // Every connection is used, more than once.
    const path = '/api/tasks/999999999'
    const after = Array.from({ length: 100 }, async () =>
      timed(server.request('GET', path, { token })),
    )
    for (const { answer, ms } of await Promise.all(after)) {
      expect(answer.status).toBe(404)
      expect(ms).toBeLessThan(slack)
    }
  })

  test('has not made the changes it answered with 503, and never makes them', async () => {
    const { id: user, token } = await newUser()
    const kept = await server.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title: 'Before' },
    })
    const one = `/api/tasks/${kept.body.id}`
    const release = await postgres.hold('lock table todo_api.tasks in access exclusive mode')
    try {
      const changes = [
        server.request('PUT', one, { token, json: { title: 'Changed' } }),
        server.request('DELETE', one, { token }),
        // More than there are connections: some wait for the lock, and some for a connection.
        ...Array.from({ length: 20 }, async () =>
          server.request('POST', '/api/tasks', { token, json: { title: 'Late' } }),
        ),
      ]
      for (const answer of await Promise.all(changes)) expectUnavailable(answer)
      await eventually('no statement waits any more', async () => (await postgres.waiting()) === 0)
    } finally {
      await release()
    }
    // Whatever could still be on its way comes before this one.
    await server.request('POST', '/api/tasks', { token, json: { title: 'After' } })
    expect(await titlesOf(user)).toEqual(['After', 'Before'])
  })
})

test('PgBouncer survives that it cannot pass on what a server asks it to cancel', async () => {
  const url = databaseUrl(pooler, 'sslmode=require&prepare=false')
  const server = await startServer(url)
  const { token } = await newUser()
  const ask = async () => server.request('GET', '/api/tasks', { token })
  try {
    expect((await ask()).status).toBe(200)
    const thaw = await postgres.freeze()
    expectUnavailable(await ask())
    // Longer than the server waits for the end of a statement that it has cancelled.
    await Bun.sleep(cancelledWithin + slack)
    thaw()
    await eventually('an answer of 200', async () => (await ask()).status === 200)
    expect(pooler.isRunning()).toBe(true)
  } finally {
    await server.end('SIGKILL')
  }
})

test('a server answers 503 while the database is down, stays alive, and answers 200 once it is up', async () => {
  const server = await startServer(databaseUrl(postgres, 'sslmode=require'))
  const { token } = await newUser()
  const status = async (path: string) => (await server.request('GET', path, { token })).status
  try {
    expect(await status('/ready')).toBe(200)
    await postgres.stop()
    for (let round = 0; round < 3; round += 1) {
      expectUnavailable(await server.request('GET', '/ready'))
      expectUnavailable(await server.request('GET', '/api/tasks', { token }))
      expectUnavailable(
        await server.request('POST', '/api/tasks', { token, json: { title: 'Lost' } }),
      )
      expect(await status('/health')).toBe(200)
    }
    await postgres.start()
    await eventually('/ready is 200', async () => (await status('/ready')) === 200, 2_000)
    expect(await status('/api/tasks')).toBe(200)
  } finally {
    await server.end('SIGKILL')
  }
})
