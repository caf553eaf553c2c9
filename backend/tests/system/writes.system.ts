import { afterAll, expect, test } from 'bun:test'
import { parseDatabaseUrl } from '../../db/address.ts'
import { connect } from '../../db/pool.ts'
import { migrate } from '../../db/migrate.ts'
import { createTaskStore } from '../../tasks/store.ts'
import { newUser, type TaskBody } from '../support/api.ts'
import { countingCheck } from '../support/counting-check.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startProxy } from '../support/proxy.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const database = connect(parseDatabaseUrl(url))
await migrate(database)
await database.script(countingCheck, 5_000)
afterAll(async () => {
  await database.close()
  await postgres.close()
})

const json = { title: 'Once' }

test('while the first request with a key still runs, a second is told to come back', async () => {
  const { id: user, token } = await newUser()
  const server = await startServer(url)
  await server.request('POST', '/api/tasks', { token, json: { title: 'There is a list' } })
  const options = { token, json, headers: { 'idempotency-key': 'slow' } }
  const release = await postgres.hold(
    `select from todo_api.task_lists where user_id = '${user}' for update`,
  )
  const first = server.request<TaskBody>('POST', '/api/tasks', options)
  await eventually('the first waits', async () => (await postgres.waiting()) === 1)
  const second = await server.request('POST', '/api/tasks', options)
  expect([second.status, second.headers.get('retry-after')]).toEqual([409, '1'])
  expect(second.body).toMatchObject({ code: 'idempotency_in_progress' })
  await release()
  const done = await first
  expect(done.status).toBe(201)
  const again = await server.request('POST', '/api/tasks', options)
  expect([again.text, again.headers.get('idempotent-replayed')]).toEqual([done.text, 'true'])
  await server.end()
})

test('a server that is killed between the write and the answer leaves one row, and one answer', async () => {
  const { id: user, token } = await newUser()
  const first = await startServer(url)
  const options = { token, json, headers: { 'idempotency-key': 'killed' } }
  // The statement waits at its very end, where it writes the key down.
  const release = await postgres.hold('lock table todo_api.idempotency_keys in share mode')
  const lost = first.request('POST', '/api/tasks', options).catch(() => 'lost')
  await eventually('it waits', async () => {
    const waiting = await postgres.admin`
      select from pg_stat_activity where wait_event_type = 'Lock' and query like '%input as materialized%'`
    return waiting.length === 1
  })
  await first.end('SIGKILL')
  expect(await lost).toBe('lost')
  await release()
  const count = async () =>
    (await postgres.admin`select from todo_api.tasks where user_id = ${user}`).length
  const second = await startServer(url)
  const answers = [
    await second.request('POST', '/api/tasks', options),
    await second.request('POST', '/api/tasks', options),
  ]
  expect(answers.map(({ status }) => status)).toEqual([201, 201])
  expect(answers[1]!.text).toBe(answers[0]!.text)
  expect(await count()).toBe(1)
  await second.end()
})

test('a reader who goes by the counter misses no change, however many write at once', async () => {
  const { id: user } = await newUser()
  const writers = [1, 2, 3, 4].map(() => connect(parseDatabaseUrl(`${url}&max=2`)))
  const reader = connect(parseDatabaseUrl(`${url}&max=1`))
  const each = 60
  let running = writers.length * 2
  const work = writers.flatMap((writer, index) => {
    const store = createTaskStore(writer, { maxTasksPerUser: 10_000 })
    return [0, 1].map(async () => {
      for (let number = 0; number < each; number += 1) {
        const { id } = await store.create(user, { title: `Writer ${index}` }, {})
        if (number % 3 === 0) await store.toggle(user, id, {})
      }
      running -= 1
    })
  })
  const seen = new Map<number, number>()
  let last = 0
  for (let isLast = false; !isLast;) {
    isLast = running === 0
    const rows = await reader.query<{ id: number; change: number }>`
      select id, change from todo_api.tasks where user_id = ${user} and change > ${last} order by change limit 7`
    for (const { id, change } of rows) {
      expect(change).toBeGreaterThan(last)
      last = change
      seen.set(id, change)
    }
    if (rows.length > 0) isLast = false
  }
  await Promise.all(work)
  const all = await reader.query<{ id: number; change: number }>`
    select id, change from todo_api.tasks where user_id = ${user}`
  expect(all).toHaveLength(each * 8)
  for (const { id, change } of all) expect([id, seen.get(id)]).toEqual([id, change])
  expect(new Set(all.map(({ change }) => change)).size).toBe(all.length)
  await Promise.all([...writers, reader].map(async (connection) => connection.close()))
})

test('what is asked after a write that was refused has what is left of the deadline', async () => {
  const { id: user } = await newUser()
  const proxy = await startProxy(postgres.port)
  const place = { ...postgres, port: proxy.port }
  const distant = connect(parseDatabaseUrl(databaseUrl(place, 'sslmode=require&max=1')), {
    deadline: 2_000,
  })
  const store = createTaskStore(distant, { maxTasksPerUser: 10 })
  const { id } = await store.create(user, { title: 'There is a list' }, {})
  const missing = id + 1_000
  const idempotency = { key: 'refused', request: 'one' }
  const tellings = Object.fromEntries(
    ['changed', 'task_not_found', 'bulk_refused'].map((outcome) => [outcome, { status: 0 }]),
  ) as Parameters<typeof store.bulk>[0]['tellings']
  const refusals = [
    async () => store.toggle(user, missing, {}),
    async () =>
      store.bulk({
        owner: user,
        operations: [{ operation: { op: 'toggle', id: missing } }],
        atomic: true,
        idempotency,
        tellings,
      }),
  ]
  for (const refused of refusals)
    expect(await refused().catch(({ name }: Error) => name)).toBe('ApiError')
  proxy.become('delayed', 600)
  // Each has two statements of 1.2 s.
  for (const refused of refusals)
    expect(await refused().catch(({ name }: Error) => name)).toBeOneOf([
      'DatabaseUnavailable',
      'WaitedTooLong',
    ])
  proxy.become('clear')
  await distant.close()
  proxy.close()
})
