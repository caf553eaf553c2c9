import { afterAll, expect, test } from 'bun:test'
import { newUser, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { spawnServer, startServer } from '../support/server.ts'

const postgres = await startPostgres()
afterAll(async () => postgres.close())

// As Neon writes it: the server has to know the authority by itself.
const url = databaseUrl(postgres, 'sslmode=require&channel_binding=require')
const settings = { NODE_EXTRA_CA_CERTS: postgres.certificates.authority }

test('what a server was told survives it', async () => {
  const { token } = await newUser()
  const first = await startServer(url, settings)
  const { status, body } = await first.request<TaskBody>('POST', '/api/tasks', {
    token,
    json: { title: 'Outlive this', description: 'ünï 🥛' },
  })
  expect(status).toBe(201)
  expect(await first.end()).toBe(0)
  const second = await startServer(url, settings)
  expect((await second.request('GET', '/api/tasks', { token })).body).toEqual([body])
  expect(await second.end('SIGINT')).toBe(0)
})

test('two servers on one database show the same tasks', async () => {
  const { token } = await newUser()
  const [one, other] = await Promise.all([startServer(url, settings), startServer(url, settings)])
  const { body } = await one.request<TaskBody>('POST', '/api/tasks', {
    token,
    json: { title: 'Shared' },
  })
  const path = `/api/tasks/${body.id}`
  const completed = await other.request('PATCH', `${path}/complete`, { token })
  expect(completed.body).toMatchObject({ id: body.id, completed: true })
  expect((await one.request('GET', path, { token })).body).toEqual(completed.body)
  expect((await one.request('DELETE', path, { token })).status).toBe(204)
  expect((await other.request('GET', '/api/tasks', { token })).body).toEqual([])
  expect(await Promise.all([one.end(), other.end()])).toEqual([0, 0])
})

test('a server that is told to stop answers the requests that it has, and exits 0', async () => {
  const users = [await newUser(), await newUser()]
  const server = await startServer(url, settings)
  const release = await postgres.hold('lock table todo_api.tasks in access exclusive mode')
  const titles = Array.from({ length: 30 }, (_, number) => `In flight ${number}`)
  const answers = titles.map(async (title, number) =>
    server.request('POST', '/api/tasks', { ...users[number % 2], json: { title } }),
  )
  // The first goes by itself, and the others wait to go together.
  await eventually('a statement waits', async () => (await postgres.waiting()) > 0)
  // It is accepted after all of them.
  expect((await server.request('GET', '/health')).status).toBe(200)
  server.signal('SIGTERM')
  await server.logged(/^SIGTERM/)
  await expect(server.request('GET', '/health')).rejects.toThrow()
  await release()
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(titles.map(() => 201))
  expect(await server.exited).toBe(0)
  const rows = await postgres.admin`
    select title from todo_api.tasks where user_id in ${postgres.admin(users.map(({ id }) => id))}`
  expect(rows.map(({ title }) => String(title)).toSorted()).toEqual(titles.toSorted())
})

test('a server that starts before its database waits for it', async () => {
  await postgres.stop()
  const server = spawnServer(url, settings)
  await server.logged(/^The database does not answer yet/)
  await postgres.start()
  await server.logged('listening')
  expect(await server.end()).toBe(0)
})

test('in production requests are limited without a setting that says so', async () => {
  const defaults = { RATE_LIMIT_PER_USER: '', RATE_LIMIT_PER_ADDRESS: '' }
  const server = await startServer(url, { ...settings, ...defaults })
  const { headers } = await server.request('GET', '/api/tasks', await newUser())
  expect(headers.get('ratelimit-policy')).toBe('"address";q=3000;w=60, "user";q=600;w=60')
  expect(headers.get('ratelimit')).toBe('"address";r=2999;t=1, "user";r=599;t=1')
  await server.end()
})
