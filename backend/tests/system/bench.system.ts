import { afterAll, describe, expect, test } from 'bun:test'
import { startContestant } from '../../bench/contestants.ts'
import { startBenchDatabase } from '../../bench/database.ts'
import { peers } from '../../bench/peers.ts'
import { newUser, tokenFor, type TaskBody } from '../support/api.ts'
import { requestTo } from '../support/server.ts'

const databases = await startBenchDatabase()

const fields = [
  'id',
  'title',
  'description',
  'completed',
  'priority',
  'tags',
  'due_date',
  'due_time',
  'due_timezone',
  'due_at',
  'completed_at',
  'created_at',
  'updated_at',
  'version',
].toSorted()

const servers = await Promise.all(
  peers.map(async (peer) => {
    const contestant = await startContestant(peer, databases.addresses)
    return { ...peer, ...contestant, request: requestTo(contestant.origin) }
  }),
)
afterAll(async () => {
  await Promise.all(servers.map(async (server) => server.stop()))
  await databases.close()
})

describe.each(servers)('$name', ({ request, database, identifies }) => {
  /** Somebody new, who sends requests. */
  async function newClient() {
    const { id, token } = await newUser()
    const identity = identifies === 'token' ? { token } : { headers: { 'x-user': id } }
    async function send<Body = TaskBody>(
      method: string,
      path: string,
      json?: unknown,
      headers: Record<string, string> = {},
    ) {
      return request<Body>(method, path, {
        ...identity,
        headers: { ...identity.headers, ...headers },
        ...(json !== undefined && { json }),
      })
    }
    return { id, send }
  }

  async function rowsOf(user: string) {
    const { query, fragment } = databases[database]
    const tasks = database === 'ours' ? fragment`todo_api.tasks` : fragment`tasks`
    return query<Record<string, unknown>>`
      select title, description, completed, priority::text, array_to_string(tags, ',') as tags, due_date::text,
        completed_at is not null as has_completed_at, version::int
      from ${tasks} where user_id = ${user} order by id`
  }

  const milk = {
    title: 'Buy "milk" – 2 ℓ',
    description: 'oat\n🥛',
    completed: true,
    priority: 'high',
    tags: ['home, sweet', '"shop"'],
    due_date: '2026-03-01',
  }

  test('is healthy', async () => {
    const { status, body } = await request('GET', '/health')
    expect({ status, body }).toMatchObject({ status: 200, body: { status: 'ok' } })
  })

  test('creates tasks, and stores what it answers', async () => {
    const { id, send } = await newClient()
    const full = await send('POST', '/api/tasks', milk)
    expect(full).toMatchObject({ status: 201, body: { ...milk, version: 1 } })
    expect(Object.keys(full.body).toSorted()).toEqual(fields)
    expect(Date.parse(full.body.completed_at!)).toBeGreaterThan(0)
    expect(full.body.created_at).toMatch(/^\d{4}-\d\d-\d\dT/)
    const short = await send('POST', '/api/tasks', { title: 'Only a title' })
    const absent = { description: null, completed: false, completed_at: null, due_date: null }
    expect(short).toMatchObject({
      status: 201,
      body: { title: 'Only a title', ...absent, priority: 'none', tags: [], due_time: null },
    })
    expect(await rowsOf(id)).toEqual([
      { ...milk, tags: 'home, sweet,"shop"', has_completed_at: true, version: 1 },
      {
        title: 'Only a title',
        description: null,
        completed: false,
        priority: 'none',
        tags: '',
        due_date: null,
        has_completed_at: false,
        version: 1,
      },
    ])
  })

  test("lists the user's tasks alone, oldest first, and once", async () => {
    const [client, other] = [await newClient(), await newClient()]
    expect(await client.send('GET', '/api/tasks')).toMatchObject({ status: 200, body: [] })
    const created = []
    for (const title of ['First', 'Second'])
      created.push((await client.send('POST', '/api/tasks', { ...milk, title })).body)
    await other.send('POST', '/api/tasks', milk)
    const listed = await client.send<TaskBody[]>('GET', '/api/tasks')
    expect(listed).toMatchObject({ status: 200, body: created })
    expect(listed.body).toEqual(created)
    expect(listed.headers.get('content-type')).toStartWith('application/json')
    const etag = listed.headers.get('etag')!
    const again = await client.send('GET', '/api/tasks', undefined, { 'if-none-match': etag })
    expect(again).toMatchObject({ status: 304, text: '' })
    expect(again.headers.get('etag')).toBe(etag)
    await client.send('POST', '/api/tasks', { title: 'Third' })
    const changed = await client.send('GET', '/api/tasks', undefined, { 'if-none-match': etag })
    expect(changed.status).toBe(200)
    expect(changed.body).toHaveLength(3)
  })

  test('changes the fields that are given', async () => {
    const { id, send } = await newClient()
    const created = (await send('POST', '/api/tasks', milk)).body
    const path = `/api/tasks/${created.id}`
    expect((await send('GET', path)).body).toEqual(created)
    const renamed = await send('PUT', path, { title: 'Renamed' })
    expect(renamed).toMatchObject({ status: 200, body: { ...milk, title: 'Renamed', version: 2 } })
    expect(renamed.body.completed_at).toBe(created.completed_at)
    const rest = { description: null, completed: false, priority: 'low', tags: [], due_date: null }
    const emptied = await send('PUT', path, rest)
    expect(emptied).toMatchObject({ status: 200, body: { ...rest, title: 'Renamed', version: 3 } })
    expect((await send('GET', path)).body).toEqual(emptied.body)
    expect(await rowsOf(id)).toEqual([
      { ...rest, title: 'Renamed', tags: '', has_completed_at: false, version: 3 },
    ])
  })

  test('completes a task and reopens it', async () => {
    const { id, send } = await newClient()
    const created = (await send('POST', '/api/tasks', { title: 'Toggled' })).body
    const path = `/api/tasks/${created.id}/complete`
    const done = await send('PATCH', path)
    expect(done).toMatchObject({ status: 200, body: { completed: true, version: 2 } })
    expect(done.body.completed_at).not.toBeNull()
    expect(await rowsOf(id)).toMatchObject([
      { completed: true, has_completed_at: true, version: 2 },
    ])
    const undone = await send('PATCH', path)
    expect(undone.body).toMatchObject({ completed: false, completed_at: null, version: 3 })
  })

  const requests = [
    ['GET', ''],
    ['PUT', ''],
    ['PATCH', '/complete'],
  ] as const

  test.each(requests)("does not %s anybody else's task%s", async (method, suffix) => {
    const [client, other] = [await newClient(), await newClient()]
    const { id } = (await other.send('POST', '/api/tasks', milk)).body
    const json = method === 'PUT' ? { title: 'Mine' } : undefined
    const refused = await client.send(method, `/api/tasks/${id}${suffix}`, json)
    const missing = await client.send(method, `/api/tasks/2000000000${suffix}`, json)
    expect([missing.status, refused.status]).toEqual([404, 404])
    expect(await rowsOf(other.id)).toMatchObject([{ title: milk.title, version: 1 }])
  })

  if (identifies === 'header') return

  test('refuses a request without a good token', async () => {
    const expired = await tokenFor('somebody', { exp: 1 })
    const foreign = await tokenFor(
      'somebody',
      {},
      { key: 'another secret, and as long: 0123456789' },
    )
    for (const headers of [
      { authorization: '' },
      { authorization: `Bearer ${expired}` },
      { authorization: `Bearer ${foreign}` },
    ]) {
      expect((await request('GET', '/api/tasks', { headers })).status).toBe(401)
    }
  })

  test.each([
    ['no title', {}],
    ['an empty title', { title: '' }],
    ['a long title', { title: 'x'.repeat(201) }],
    ['a long description', { title: 'x', description: 'x'.repeat(2001) }],
    ['what is neither true nor false', { title: 'x', completed: 'perhaps' }],
    ['an unknown priority', { title: 'x', priority: 'highest' }],
    ['an empty tag', { title: 'x', tags: [''] }],
    ['a long tag', { title: 'x', tags: ['x'.repeat(51)] }],
    ['many tags', { title: 'x', tags: Array.from({ length: 21 }, (_, index) => `tag ${index}`) }],
    ['what is no date', { title: 'x', due_date: 'tomorrow' }],
  ])('refuses to create %s', async (_, json) => {
    const { id, send } = await newClient()
    const { status } = await send('POST', '/api/tasks', json)
    // Which of them is the framework's own choice.
    expect([400, 422]).toContain(status)
    expect(await rowsOf(id)).toEqual([])
  })

  test('lets the front end in, and no other origin', async () => {
    const { send } = await newClient()
    const allowed = async (origin: string) =>
      (await send('GET', '/api/tasks', undefined, { origin })).headers.get(
        'access-control-allow-origin',
      )
    expect(await allowed('http://localhost:3000')).toBe('http://localhost:3000')
    expect(await allowed('http://evil.example')).not.toBe('http://evil.example')
  })
})
