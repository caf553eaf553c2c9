import { afterAll, expect, test } from 'bun:test'
import { newUser, secret, type TaskBody } from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { run } from '../support/process.ts'
import { partition } from '../support/partitions.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const name = await postgres.createDatabase()
const url = databaseUrl({ ...postgres, database: name }, 'sslmode=require')
/** Nobody is there, so that the server looks for changes every second, and not every 15. */
const noListener = { DATABASE_URL_UNPOOLED: databaseUrl({ port: 1 }, 'sslmode=require') }
const server = await startServer(url, noListener)
const sql = postgres.connectAsSuperuser(name)
afterAll(async () => {
  await server.end('SIGKILL')
  await sql.end()
  await postgres.close()
})

const forget = async (user: string) =>
  run(
    'backend/programs/executable.ts',
    postgres.directory,
    { NODE_ENV: 'production', DATABASE_URL: url, BETTER_AUTH_SECRET: secret },
    ['forget', user],
  )

/** Every table that has rows of users, whatever it is called, with those of one user as text. */
async function rowsByTable(user: string): Promise<Record<string, string[]>> {
  const tables = await sql<{ table_name: string }[]>`
    select table_name from information_schema.columns
    where table_schema = 'todo_api' and column_name = 'user_id' order by table_name`
  const found: Record<string, string[]> = {}
  for (const { table_name: table } of tables) {
    const rows = await sql<{ row: string }[]>`
      select row_to_json(t)::text as row from todo_api.${sql(table)} as t where user_id = ${user} order by 1`
    found[table] = rows.map(({ row }) => row)
  }
  return found
}

/** Somebody of whom there are rows in every table. */
async function somebody() {
  const user = await newUser()
  const { token } = user
  async function create(title: string, headers: Record<string, string> = {}): Promise<number> {
    const json = { title }
    const { body } = await server.request<TaskBody>('POST', '/api/tasks', { token, json, headers })
    return body.id
  }
  const kept = await create('Kept')
  const reminders = [{ at: '2126-01-01T00:00:00Z' }]
  await server.request('PATCH', `/api/tasks/${kept}`, { token, json: { reminders } })
  const trashed = await create('In the trash')
  const gone = await create('Gone', { 'idempotency-key': 'mine' })
  await server.request('DELETE', `/api/tasks/${trashed}`, { token })
  await server.request('DELETE', `/api/tasks/${gone}?permanent=true`, { token })
  await server.request('POST', '/api/tasks/events/ticket', { token })
  await server.request('POST', '/api/keys', { token, json: { name: 'x', scope: 'read' } })
  const list = await server.request<TaskBody[]>('GET', '/api/tasks', { token })
  const stream = await openEvents(`${server.origin}/api/tasks/events`, {
    authorization: `Bearer ${token}`,
  })
  return { ...user, kept, list, stream }
}

test('a user with many tasks is forgotten in time by plans that expect next to none', async () => {
  const reminders = [{ at: '2126-01-01T00:00:00Z' }, { at: '2126-01-02T00:00:00Z' }]
  const create = async (token: string, count: number) => {
    const operations = Array.from({ length: count }, () => ({
      op: 'create',
      data: { title: 'x', reminders },
    }))
    await server.request('POST', '/api/tasks/bulk', { token, json: { operations } })
  }
  await create((await newUser()).token, 5)
  // Tables that have just been filled, and of which PostgreSQL has not taken notice yet.
  for (const table of ['tasks', 'reminders'])
    await sql`alter table todo_api.${sql(table)} set (autovacuum_enabled = off)`
  await sql`vacuum analyze todo_api.tasks, todo_api.reminders`
  const { id, token } = await newUser()
  for (let bulk = 0; bulk < 40; bulk += 1) await create(token, 100)
  const { stdout, exitCode } = await forget(id)
  expect(stdout).toContain('8000 of reminders, 4000 of tasks,')
  expect(exitCode).toBe(0)
  for (const table of ['tasks', 'reminders'])
    await sql`alter table todo_api.${sql(table)} reset (autovacuum_enabled)`
}, 120_000)

test('everything kept about a user is removed, and nobody else notices', async () => {
  const [leaving, staying] = await Promise.all([somebody(), somebody()])
  const before = await rowsByTable(leaving.id)
  expect(Object.keys(before).length).toBeGreaterThanOrEqual(5)
  // A table that is empty here would not be tested: give it a row in `somebody`.
  for (const [table, rows] of Object.entries(before)) expect([table, rows]).not.toEqual([table, []])
  const others = await rowsByTable(staying.id)

  const { stdout, stderr, exitCode } = await forget(leaving.id)
  expect([stderr, exitCode]).toEqual([`Database: ${name} at ${new URL(url).host}\n`, 0])
  expect(stdout).toBe(
    'Removed for good: 1 of personal_keys, 1 of event_tickets, 1 of idempotency_keys, 1 of reminders, 2 of tasks, 1 of deleted_tasks, 1 of task_lists.\n',
  )
  for (const rows of Object.values(await rowsByTable(leaving.id))) expect(rows).toEqual([])
  expect(await rowsByTable(staying.id)).toEqual(others)
  expect((await forget(leaving.id)).stdout).toBe('Nothing is kept of this user.\n')

  // Their open stream ends, and what they come back with is of a list that is not there.
  await leaving.stream.ended
  const { token } = leaving
  const etag = leaving.list.headers.get('etag')!
  const again = await server.request('GET', '/api/tasks', {
    token,
    headers: { 'if-none-match': etag },
  })
  expect([again.status, again.body]).toEqual([200, []])
  const since = leaving.list.headers.get('sync-token')!
  const changes = await server.request('GET', `/api/tasks/changes?since=${since}`, { token })
  expect(changes.status).toBe(410)
  expect((await server.request('GET', `/api/tasks/${leaving.kept}`, { token })).status).toBe(404)

  // Others follow on, with what they were given.
  const theirs = {
    token: staying.token,
    headers: { 'if-none-match': staying.list.headers.get('etag')! },
  }
  expect((await server.request('GET', '/api/tasks', theirs)).status).toBe(304)
  const json = { title: 'Still here' }
  await server.request('POST', '/api/tasks', { token: staying.token, json })
  await staying.stream.received(1)
  expect(staying.stream.events.at(-1)).toMatchObject({ event: 'task.created' })
  staying.stream.close()
})

test('a user with many rows who goes on writing meanwhile leaves nothing either', async () => {
  const { id, token } = await newUser()
  await server.request('POST', '/api/tasks', { token, json: { title: 'First' } })
  await sql`
    insert into todo_api.tasks (user_id, title, change) select ${id}, 'Many', 100 + n from generate_series(1, 5000) as n`
  await sql`
    insert into todo_api.idempotency_keys (user_id, key, request, status, task_id)
    select ${id}, n::text, '', 201, 1 from generate_series(1, 5000) as n`
  const forgetting = forget(id)
  let isDone = false
  const done = forgetting.then(() => (isDone = true))
  // Until the first of their tasks is gone, so that some writes fall into it.
  for (let written = 0; written < 40 && !isDone; written += 1)
    await server.request('POST', '/api/tasks', { token, json: { title: 'Meanwhile' } })
  await done
  const { stdout, stderr, exitCode } = await forgetting
  expect([stderr, exitCode]).toEqual([`Database: ${name} at ${new URL(url).host}\n`, 0])
  expect(stdout).toMatch(/5\d\d\d of tasks/)
  const left = await rowsByTable(id)
  // What was written after the last round is a new beginning, whole and with a list.
  if (left['tasks']!.length > 0) expect(left['task_lists']).toHaveLength(1)
  expect((await forget(id)).exitCode).toBe(0)
  for (const rows of Object.values(await rowsByTable(id))) expect(rows).toEqual([])
})

test('takes nobody else’s rows along from tables that are split by user', async () => {
  const indexes = async () =>
    sql`
      select indexname as name, indexdef like '%UNIQUE%' as is_unique from pg_indexes
      where schemaname = 'todo_api' and indexname !~ '_[0-7](_|$)' order by indexname`
  const whole = await indexes()
  await partition(sql, owner.name)
  expect(await indexes()).toEqual(whole)
  const users = await Promise.all(Array.from({ length: 12 }, newUser))
  for (const { token } of users)
    await server.request('POST', '/api/tasks', {
      token,
      json: { title: 'Mine', reminders: [{ at: '2126-01-01T00:00:00Z' }] },
      headers: { 'idempotency-key': 'mine' },
    })
  const [leaving, ...staying] = users
  const rowsOfOthers = async () => Promise.all(staying.map(async ({ id }) => rowsByTable(id)))
  const before = await rowsOfOthers()
  expect((await forget(leaving!.id)).stdout).toBe(
    'Removed for good: 1 of idempotency_keys, 1 of reminders, 1 of tasks, 1 of task_lists.\n',
  )
  expect(await rowsOfOthers()).toEqual(before)
})
