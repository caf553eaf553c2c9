import { afterAll, describe, expect, test } from 'bun:test'
import { connect as connectTo } from 'node:net'
import { createMetrics } from '../../http/prometheus.ts'
import { connect } from '../../db/pool.ts'
import { databasePlace, newUser, startApi, type RequestOptions } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { createTaskStore } from '../../tasks/store.ts'
import { openEvents } from '../support/events.ts'

const metrics = createMetrics()
const api = startApi({ metrics })
afterAll(async () => api.stop())

/** The samples whose line begins so, with their values. */
async function samples(beginning: string, of = metrics): Promise<Map<string, number>> {
  const lines = (await of.text()).split('\n').filter((line) => line.startsWith(beginning))
  return new Map(
    lines.map((line) => {
      const end = line.lastIndexOf(' ')
      return [line.slice(0, end), Number(line.slice(end + 1))]
    }),
  )
}

const counted = 'http_server_request_duration_seconds_count'
const labels = (method: string, route: string, status: number) =>
  `${counted}{http_request_method="${method}",http_route="${route}",http_response_status_code="${status}"}`

describe('a request is counted by method, route and status', () => {
  const cases: [string, string, RequestOptions & { signedIn?: boolean }, string][] = [
    ['GET', '/api/tasks?q=secret', { signedIn: true }, labels('GET', '/api/tasks', 200)],
    ['GET', '/api/tasks/', { signedIn: true }, labels('GET', '/api/tasks', 200)],
    ['HEAD', '/api/tasks', { signedIn: true }, labels('HEAD', '/api/tasks', 200)],
    [
      'POST',
      '/api/tasks',
      { signedIn: true, json: { title: 'x' } },
      labels('POST', '/api/tasks', 201),
    ],
    ['POST', '/api/tasks', { signedIn: true, body: '{' }, labels('POST', '/api/tasks', 415)],
    ['GET', '/api/tasks', {}, labels('GET', '/api/tasks', 401)],
    ['GET', '/api/tasks/77777777', { signedIn: true }, labels('GET', '/api/tasks/:id', 404)],
    ['GET', '/api/somebody/tasks', { signedIn: true }, labels('GET', '/api/:user_id/tasks', 403)],
    ['GET', '/api/secrets/7', { signedIn: true }, labels('GET', 'unmatched', 404)],
    ['GET', '/secret', {}, labels('GET', 'unmatched', 404)],
    ['DELETE', '/health', {}, labels('DELETE', 'unmatched', 405)],
    ['PROPFIND', '/secret', {}, labels('_OTHER', 'unmatched', 404)],
    ['OPTIONS', '/secret', {}, labels('OPTIONS', 'unmatched', 204)],
    ['OPTIONS', '/secret', { headers: { host: '[::x' } }, labels('OPTIONS', 'unmatched', 204)],
    ['GET', '/docs/json', {}, labels('GET', '/docs/json', 200)],
  ]
  test.each(cases)('%s %s', async (method, path, { signedIn, ...options }, name) => {
    const { id, token } = await newUser()
    const before = (await samples(name)).get(name) ?? 0
    const { status } = await api.request(method, path, { ...options, ...(signedIn && { token }) })
    expect(name).toContain(`http_response_status_code="${status}"`)
    await eventually('it is counted', async () => (await samples(name)).get(name) === before + 1)
    const text = await metrics.text()
    for (const secret of [id, 'secret', '77777777', 'somebody', 'PROPFIND'])
      expect(text).not.toContain(secret)
  })
})

test('so are requests refused before a route is looked for, and clients that leave', async () => {
  const limited = createMetrics()
  const busy = startApi({ metrics: limited, settings: { RATE_LIMIT_PER_ADDRESS: '1' } })
  const { port } = new URL(busy.origin)
  const { token } = await newUser()
  async function sendRaw(text: string): Promise<void> {
    const { promise: answered, resolve } = Promise.withResolvers<void>()
    const socket = connectTo(Number(port), '127.0.0.1')
    socket.on('data', () => resolve())
    socket.write(text)
    if (text.endsWith('\r\n\r\n')) await answered
    else await busy.request('GET', '/health')
    socket.destroy()
  }
  await sendRaw(
    `POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n` +
      'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"tit',
  )
  await sendRaw('GET /secret HTTP/1.1\r\nHost: a b\r\n\r\n')
  await busy.request('GET', '/api/tasks', { token })
  for (const name of [
    labels('POST', '/api/tasks', 499),
    labels('GET', 'unmatched', 400),
    labels('GET', 'unmatched', 429),
  ])
    await eventually(name, async () => (await samples(name, limited)).get(name) === 1)
  expect(await limited.text()).not.toContain('secret')
  await busy.stop()
})

test('what fails outside the app is counted as our failure', async () => {
  const name = labels('_OTHER', 'unmatched', 500)
  const before = (await samples(name)).get(name) ?? 0
  const error: unknown = api.app.config.serve?.error
  const answer = (error as (thrown: unknown) => Response)(undefined)
  expect(answer.status).toBe(500)
  expect((await samples(name)).get(name)).toBe(before + 1)
})

test('an event stream is counted when it begins, and while it is open', async () => {
  const { token } = await newUser()
  const stream = await openEvents(`${api.origin}/api/tasks/events`, {
    authorization: `Bearer ${token}`,
  })
  expect((await samples('todo_event_streams')).get('todo_event_streams')).toBe(1)
  const name = labels('GET', '/api/tasks/events', 200)
  await eventually('it is counted', async () => (await samples(name)).get(name) === 1)
  stream.close()
  await eventually(
    'it is no longer counted',
    async () => (await samples('todo_event_streams')).get('todo_event_streams') === 0,
  )
})

test('statements are timed, and counted if the database is away', async () => {
  const ours = createMetrics()
  const away = connect({ socket: '/no/such/directory' }, { metrics: ours })
  expect(await away.query`select 1`.catch(({ name }: Error) => name)).toBe('DatabaseUnavailable')
  const values = new Map([
    ...(await samples('todo_database', ours)),
    ...(await samples('todo_purged', ours)),
  ])
  expect(values.get('todo_database_unavailable_total')).toBe(1)
  expect(values.get('todo_database_statement_duration_seconds_count')).toBe(1)
  expect(values.get('todo_database_statements_requests_sum')).toBe(1)
  ours.countPurged('trashed', 3)
  expect((await samples('todo_purged_total{', ours)).get('todo_purged_total{kind="trashed"}')).toBe(
    3,
  )
  await away.close()
})

test('a statement that serves a set of requests is counted with all of them', async () => {
  const ours = createMetrics()
  const connection = connect(databasePlace, { metrics: ours })
  const tasks = createTaskStore(connection, { maxTasksPerUser: 10 })
  const { id } = await newUser()
  // The first goes at once, and the others together once it is back.
  const asked = Array.from({ length: 20 }, async () => tasks.find(id, Number.MAX_SAFE_INTEGER))
  for (const { status } of await Promise.allSettled(asked)) expect(status).toBe('rejected')
  const values = await samples('todo_database', ours)
  expect(values.get('todo_database_statements_requests_count')).toBe(2)
  expect(values.get('todo_database_statements_requests_sum')).toBe(20)
  await connection.close()
})

test('requests that fail together because the database is away are counted one by one', async () => {
  const ours = createMetrics()
  const away = connect({ socket: '/no/such/directory' }, { metrics: ours })
  const failed = away.queryWithin(1_000, 7)`select 1`.catch(({ name }: Error) => name)
  expect(await failed).toBe('DatabaseUnavailable')
  const values = await samples('todo_database', ours)
  expect(values.get('todo_database_unavailable_total')).toBe(7)
  expect(values.get('todo_database_statements_requests_sum')).toBe(7)
  await away.close()
})

test('the process reports the truth about itself', async () => {
  const values = await samples('process_')
  expect(values.get('process_resident_memory_bytes')).toBeWithin(20e6, 5e9)
  expect(values.get('process_cpu_seconds_total')).toBeGreaterThan(0.01)
  const age = Date.now() / 1000 - values.get('process_start_time_seconds')!
  expect(Math.abs(age - process.uptime())).toBeLessThan(1)
})

describe('the trace of a request', () => {
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
  const parent = '00f067aa0ba902b7'
  async function lineOf(traceparent: string, method = 'GET') {
    const id = crypto.randomUUID()
    await api.request(method, '/health', { headers: { traceparent, 'x-request-id': id } })
    const line = await eventually('its line', async () => api.lines.find((l) => l.includes(id)))
    return JSON.parse(line) as { trace_id?: string }
  }
  test.each([
    `00-${trace}-${parent}-01`,
    `00-${trace}-${parent}-00`,
    `01-${trace}-${parent}-01-more`,
  ])('%s is in its line of the log', async (header) => {
    expect((await lineOf(header)).trace_id).toBe(trace)
    expect((await lineOf(header, 'OPTIONS')).trace_id).toBe(trace)
  })
  test.each([
    `00-${trace}-${parent}-01-more`,
    `ff-${trace}-${parent}-01`,
    `00-${trace.toUpperCase()}-${parent}-01`,
    `00-${'0'.repeat(32)}-${parent}-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `00-${trace}`,
    'secret',
  ])('%s is not', async (header) => {
    expect(await lineOf(header)).not.toHaveProperty('trace_id')
  })
})
