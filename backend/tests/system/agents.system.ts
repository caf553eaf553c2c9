import { $ } from 'bun'
import { afterAll, expect, test } from 'bun:test'
import { newUser } from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { speakMcp } from '../support/mcp.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { repository, startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
/** Nothing listens there, so servers look at their streams every second instead of every 15. */
const noListener = { DATABASE_URL_UNPOOLED: databaseUrl({ port: 1 }, 'sslmode=require') }
const [one, other] = [await startServer(url, noListener), await startServer(url, noListener)]
afterAll(async () => {
  await Promise.all([one.end('SIGKILL'), other.end('SIGKILL')])
  await postgres.close()
})

type Made = { id: number; key: string }

async function makeKey(scope: string) {
  const user = await newUser()
  const json = { name: 'agent', scope }
  const { body } = await one.request<Made>('POST', '/api/keys', { ...user, json })
  return { user, ...body }
}

test('the protocol’s own inspector finds nothing to mend in the tools', async () => {
  const { key } = await makeKey('write')
  const inspector = `${repository}/backend/bench/node_modules/.bin/inspector`
  const header = `Authorization: Bearer ${key}`
  const { exitCode, stdout, stderr } =
    await $`${inspector} --cli ${one.origin}/mcp --transport http --header ${header} --method tools/list --strict`
      .env({ ...process.env, HOME: postgres.directory })
      .nothrow()
      .quiet()
  expect([exitCode, stderr.toString()]).toEqual([0, ''])
  const { tools } = JSON.parse(stdout.toString()) as { tools: object[] }
  expect(tools).toHaveLength(7)
})

test('a key that is revoked between two requests is refused by every process, and its stream ends', async () => {
  const { user, key, id } = await makeKey('write')
  const agent = speakMcp(other, key)
  const stream = await openEvents(`${other.origin}/api/tasks/events`, {
    authorization: `Bearer ${key}`,
  })
  await agent.call('add_task', { title: 'Before' })
  await stream.received(1)
  const gone = await one.request('DELETE', `/api/keys/${id}`, user)
  expect(gone.status).toBe(204)
  expect((await agent.ask('tools/list')).status).toBe(401)
  expect((await other.request('GET', '/api/tasks', { token: key })).status).toBe(401)
  await one.request('POST', '/api/tasks', { ...user, json: { title: 'After' } })
  await stream.ended
  const { body } = await one.request<object[]>('GET', '/api/tasks', user)
  expect(body).toHaveLength(2)
})

test('while the database is away, nothing of it is told to anybody', async () => {
  const { user, key } = await makeKey('read')
  const known = speakMcp(one, user.token)
  await known.ask('tools/list')
  await postgres.stop()
  const { isError, structuredContent } = await known.call('list_tasks')
  expect([isError, structuredContent]).toEqual([
    true,
    {
      detail: 'The database cannot be reached right now; try again shortly',
      code: 'database_unavailable',
    },
  ])
  const { status, body } = await speakMcp(one, key).ask('tools/list')
  expect([status, body]).toMatchObject([503, { code: 'database_unavailable' }])
  await postgres.start()
})
