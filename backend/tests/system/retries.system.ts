import { afterAll, expect, test } from 'bun:test'
import { newUser, type Answer, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const settings = { MAX_TASKS_PER_USER: '3' }
const first = await startServer(url, settings)
const second = await startServer(url, settings)
const late = await startLate()
afterAll(async () => {
  await Promise.all([first, second, late].map(async (server) => server.end()))
  await postgres.close()
})

type BulkAnswer = { results: object[] }
type Options = { json?: unknown; headers: Record<string, string> }

/** Somebody with a task that a write awaits. */
async function newTask(isTrashed: boolean) {
  const { id: user, token } = await newUser()
  const { body } = await first.request<TaskBody>('POST', '/api/tasks', {
    token,
    json: { title: 'x' },
  })
  const path = `/api/tasks/${body.id}`
  if (isTrashed) await first.request('DELETE', path, { token })
  return { user, token, id: body.id, path }
}

const writes: [string, string, string, { json?: unknown; ifMatch?: string; isTrashed?: true }][] = [
  ['deleting', 'DELETE', '', {}],
  ['deleting for good', 'DELETE', '?permanent=true', {}],
  ['restoring', 'POST', '/restore', { isTrashed: true }],
  ['changing a version', 'PATCH', '', { json: { title: 'Changed' }, ifMatch: '"1"' }],
  ['completing a version', 'PATCH', '/complete', { ifMatch: '"1"' }],
]

test.each(writes)(
  '%s: a retry that overlaps its first request is told to come back, and then answered as it',
  async (_, method, rest, { json, ifMatch, isTrashed = false }) => {
    const { token, id, path } = await newTask(isTrashed)
    const options: Options = {
      ...(json !== undefined && { json }),
      headers: { 'idempotency-key': 'overlaps', ...(ifMatch && { 'if-match': ifMatch }) },
    }
    const ask = async (server: typeof first) =>
      server.request(method, path + rest, { token, ...options })
    const release = await postgres.hold(`select from todo_api.tasks where id = ${id} for update`)
    const begun = ask(first)
    await eventually('the first waits', async () => (await postgres.waiting()) === 1)
    for (const server of [first, second]) {
      const { status, headers, body } = await ask(server)
      expect([status, headers.get('retry-after')]).toEqual([409, '1'])
      expect(body).toMatchObject({ code: 'idempotency_in_progress' })
    }
    await release()
    const done = await begun
    expect([done.status, done.headers.get('idempotent-replayed')]).toEqual([
      method === 'DELETE' ? 204 : 200,
      null,
    ])
    const again = await ask(second)
    expect([again.status, again.text, again.headers.get('idempotent-replayed')]).toEqual([
      done.status,
      done.text,
      'true',
    ])
  },
)

test.each(writes)(
  '%s: retries at the same moment, on two servers, hear of no other end than the first',
  async (_, method, rest, { json, ifMatch, isTrashed = false }) => {
    const heard = new Set<number | string>()
    for (let round = 0; round < 40; round += 1) {
      const { token, path } = await newTask(isTrashed)
      const options: Options = {
        ...(json !== undefined && { json }),
        headers: { 'idempotency-key': 'storm', ...(ifMatch && { 'if-match': ifMatch }) },
      }
      for (const answer of await atOnce(3, token, path + rest, options, method))
        heard.add(codeOf(answer))
    }
    expect([...heard].filter((code) => code !== 'idempotency_in_progress')).toEqual([
      method === 'DELETE' ? 204 : 200,
    ])
  },
)

/** Sends a request to both servers at once, some times each. */
async function atOnce(
  times: number,
  token: string,
  path: string,
  options: Options,
  method = 'POST',
) {
  const each = Array.from({ length: times }, async () => [
    first.request(method, path, { token, ...options }),
    second.request(method, path, { token, ...options }),
  ])
  return Promise.all((await Promise.all(each)).flat())
}

const codeOf = ({ status, body }: Answer) =>
  status < 400 ? status : (body as { code: string }).code

test('creating the last task that there is room for: no retry is told that there is no room', async () => {
  const heard = new Set<number | string>()
  async function fillUp(): Promise<void> {
    const { token } = await newTask(false)
    await first.request('POST', '/api/tasks', { token, json: { title: 'Last but one' } })
    const options = { json: { title: 'Last' }, headers: { 'idempotency-key': 'last' } }
    for (const answer of await atOnce(3, token, '/api/tasks', options)) heard.add(codeOf(answer))
  }
  for (let round = 0; round < 60; round += 1) await Promise.all([1, 2, 3, 4].map(fillUp))
  expect([...heard].filter((code) => code !== 'idempotency_in_progress')).toEqual([201])
})

test('a key that is just a day old runs the new request once, however many send it at once', async () => {
  const heard = new Set<number | string>()
  for (let round = 0; round < 60; round += 1) {
    const { id: user, token } = await newUser()
    const options = { json: { title: 'Daily' }, headers: { 'idempotency-key': 'daily' } }
    await first.request('POST', '/api/tasks', { token, ...options })
    await postgres.admin`
      update todo_api.idempotency_keys set created_at = now() - interval '24 hours' where user_id = ${user}`
    for (const answer of await atOnce(4, token, '/api/tasks', options)) heard.add(codeOf(answer))
    expect(await postgres.admin`select from todo_api.tasks where user_id = ${user}`).toHaveLength(2)
  }
  expect([...heard].filter((code) => code !== 'idempotency_in_progress')).toEqual([201])
})

/**
 * A server whose statements wait, for as long as somebody holds the lock 1, before they ask whether the
 * first request still runs: they do not see what is written in the meantime.
 */
async function startLate() {
  await postgres.admin.unsafe(`
    create schema late;
    grant usage on schema late to ${owner.name};
    create function late.pg_try_advisory_xact_lock(key bigint) returns boolean language plpgsql as $$
    begin
      perform pg_advisory_xact_lock_shared(1);
      return pg_catalog.pg_try_advisory_xact_lock(key);
    end $$`)
  const lateFirst = encodeURIComponent('-c search_path=late,pg_catalog')
  return startServer(databaseUrl(postgres, `sslmode=require&options=${lateFirst}`), settings)
}

test.each([
  ['deletes', 'task_not_found', (id: number) => [{ op: 'delete', id }]],
  [
    'changes a version',
    'version_conflict',
    (id: number) => [{ op: 'update', id, if_version: 1, data: { title: 'Changed' } }],
  ],
  [
    'fills the list',
    'task_limit_reached',
    () => [1, 2].map((title) => ({ op: 'create', data: { title: `${title}` } })),
  ],
])(
  'many operations, one of which %s: a retry that began before the first ended gets its answer, and not %s',
  async (_, __, operationsOn) => {
    const { token, id } = await newTask(false)
    const options = {
      token,
      json: { operations: operationsOn(id) },
      headers: { 'idempotency-key': 'many' },
    }
    const release = await postgres.hold('select pg_advisory_xact_lock(1)')
    const overlapping = late.request<BulkAnswer>('POST', '/api/tasks/bulk', options)
    // By then there is no limit to how long it waits, so it will not begin again.
    const held = async () => (await postgres.waiting({ longerThan: 200 })) === 1
    await eventually('the retry waits', held)
    const begun = await first.request<BulkAnswer>('POST', '/api/tasks/bulk', options)
    await release()
    const retried = await overlapping
    expect([begun.status, begun.headers.get('idempotent-replayed')]).toEqual([200, null])
    expect([retried.status, retried.body]).toEqual([200, begun.body])
    expect(retried.headers.get('idempotent-replayed')).toBe('true')
  },
)
