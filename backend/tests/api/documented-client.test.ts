import { afterAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { startApi, tokenFor, type TaskBody } from '../support/api.ts'
import { codeOf } from '../support/page-code.ts'
import { makeDirectory } from '../support/process.ts'

/** What the sign-in server answers to the page's request for a token, one answer after the other. */
type Answer = () => Promise<{ data?: { token: string } | null; error?: { status: number } | null }>
type Session = { data: object | null; error: { status: number } | null }
type Client = {
  list: () => Promise<TaskBody[]>
  create: (task: { title: string }, key?: string) => Promise<TaskBody>
  follow: (
    signal: AbortSignal,
    show: (list: TaskBody[]) => void,
    remind: () => void,
  ) => Promise<void>
}

const api = startApi()
const directory = await makeDirectory()
afterAll(async () => {
  await api.stop()
  await directory.remove()
})

/** The client of docs/front-end.md as it stands there, which has asked for no token yet. */
async function newClient(
  answers: Answer[],
  owner = user,
  origin = api.origin,
  session: Session = { data: null, error: null },
): Promise<Client> {
  const place = join(directory.path, crypto.randomUUID())
  await (await codeOf('docs/front-end.md')).writeFiles(place, (name) => name === 'lib/tasks.ts')
  await Bun.write(
    join(place, 'lib/auth-client.ts'),
    `export const authClient = {
      answers: [],
      token: async () => authClient.answers.shift()(), getSession: async () => authClient.session,
    }`,
  )
  process.env['NEXT_PUBLIC_API_URL'] = origin
  const { authClient } = (await import(join(place, 'lib/auth-client.ts'))) as {
    authClient: { answers: Answer[]; session: Session }
  }
  authClient.answers.push(...answers)
  authClient.session = session
  const { TaskClient } = (await import(join(place, 'lib/tasks.ts'))) as {
    TaskClient: new (user: string) => Client
  }
  return new TaskClient(owner)
}

const user = crypto.randomUUID()
const tokenOf =
  (name: string): Answer =>
  async () => ({ data: { token: await tokenFor(name) }, error: null })
const good = tokenOf(user) // of somebody who has no tasks
const expired: Answer = async () => ({
  data: { token: await tokenFor(user, { exp: 1_000_000_000 }) },
})
const away: Answer = async () => Promise.reject(new TypeError('Failed to fetch'))
const refused = (status: number): Answer => {
  return async () => ({ data: null, error: { status } })
}

test.each([
  ['cannot be reached', [away, good]],
  ['is away', [refused(503), good]],
  ['has had too many requests', [refused(429), good]],
  ['gives a token that has expired', [expired, good]],
  ['cannot be reached, and then gives one that has expired', [away, expired, good]],
])('a sign-in server that %s is asked again', async (_, answers) => {
  const client = await newClient(answers)
  expect(await client.list()).toEqual([])
})

test('whoever is not signed in is told so at once, and asked again after signing in', async () => {
  const client = await newClient([refused(401), async () => ({ data: null }), good])
  for (let time = 0; time < 2; time += 1)
    expect(await client.list().catch((error: unknown) => error)).toMatchObject({
      status: 401,
      code: 'token_missing',
    })
  expect(await client.list()).toEqual([])
})

test.each([
  { data: null, error: { status: 500 } },
  { data: { session: {} }, error: null },
])('a sign-in server that gives no token is away if the session is %j', async (session) => {
  const client = await newClient([refused(401), good], user, api.origin, session)
  expect(await client.list()).toEqual([])
})

test('the list is followed on, though no token could be had for a while', async () => {
  const client = await newClient([refused(503), away, good])
  const stop = new AbortController()
  const { promise, resolve } = Promise.withResolvers<TaskBody[]>()
  const followed = client.follow(stop.signal, resolve, () => {})
  expect(await promise).toEqual([])
  stop.abort()
  await followed
})

test('a task is shown whatever separators of lines its text has', async () => {
  const writer = crypto.randomUUID()
  const token = await tokenFor(writer)
  const title = 'One\u2028two\u2029three'
  await api.request('POST', '/api/tasks', { token, json: { title } })
  const client = await newClient([tokenOf(writer)], writer)
  const stop = new AbortController()
  const { promise, resolve } = Promise.withResolvers<TaskBody[]>()
  const followed = client.follow(
    stop.signal,
    (list) => list.length > 0 && resolve(list),
    () => {},
  )
  expect((await promise).map((task) => task.title)).toEqual([title])
  stop.abort()
  await followed
})

test('another user’s token is refused, and neither list comes into the other', async () => {
  const [one, other] = [crypto.randomUUID(), crypto.randomUUID()]
  await api.request('POST', '/api/tasks', {
    token: await tokenFor(other),
    json: { title: 'Of the other' },
  })
  const client = await newClient([expired, tokenOf(other)], one)
  const shown: TaskBody[][] = []
  for (const attempt of [
    async () =>
      client.follow(
        new AbortController().signal,
        (list) => shown.push(list),
        () => {},
      ),
    async () => client.create({ title: 'Of the one' }),
    async () => client.list(),
  ])
    expect(await attempt().catch((error: unknown) => error)).toMatchObject({
      status: 403,
      code: 'wrong_user',
    })
  expect(shown).toEqual([])
  for (const [name, titles] of [
    [one, []],
    [other, [{ title: 'Of the other' }]],
  ] as const) {
    const { body } = await api.request('GET', '/api/tasks', { token: await tokenFor(name) })
    expect(body).toMatchObject([...titles])
  }
})

/** The API behind a proxy, which may answer by itself. */
function startProxy(answer: (request: Request, keys: Set<string | null>) => Response | undefined) {
  const keys = new Set<string | null>()
  const proxy = Bun.serve({
    port: 0,
    async fetch(request) {
      const own = answer(request, keys)
      keys.add(request.headers.get('idempotency-key'))
      const { pathname, search } = new URL(request.url)
      return own ?? fetch(`${api.origin}${pathname}${search}`, request)
    },
  })
  return { keys, origin: proxy.url.origin, stop: async () => proxy.stop(true) }
}

const page = '<html>Bad gateway</html>'
const atOnce = { 'retry-after': '0' }
const breakingOff = () =>
  new Response(Bun.gzipSync(page.repeat(9)).subarray(0, -12), {
    status: 201,
    headers: { 'content-encoding': 'gzip' },
  })

test.each([
  [
    'is still under way',
    () => Response.json({ code: 'idempotency_in_progress' }, { status: 409, headers: atOnce }),
  ],
  ['a proxy cannot hand on', () => new Response(page, { status: 502, headers: atOnce })],
  ['takes a proxy too long', () => new Response(page, { status: 504, headers: atOnce })],
  ['has an answer that breaks off', breakingOff],
])('a write whose first sending %s is sent again under its key', async (_, answer) => {
  const proxy = startProxy((_request, keys) => (keys.size === 0 ? answer() : undefined))
  const writer = crypto.randomUUID()
  const client = await newClient([tokenOf(writer)], writer, proxy.origin)
  expect(await client.create({ title: 'Once' })).toMatchObject({ title: 'Once' })
  expect(proxy.keys.size).toBe(1)
  await proxy.stop()
})

test('a task that is sent again from the same form is made once', async () => {
  const writer = crypto.randomUUID()
  const client = await newClient([tokenOf(writer)], writer)
  const key = crypto.randomUUID()
  const first = await client.create({ title: 'Milk' }, key)
  expect(await client.create({ title: 'Milk' }, key)).toEqual(first)
  expect(await client.create({ title: 'Milk' })).not.toEqual(first)
})

test('an error that is not the API’s is told in words', async () => {
  const proxy = startProxy(() => new Response(page, { status: 502, headers: atOnce }))
  const client = await newClient([good], user, proxy.origin)
  expect(await client.list().catch((error: unknown) => error)).toMatchObject({
    status: 502,
    message: 'The tasks cannot be reached (502): please try again later',
  })
  await proxy.stop()
})

test('after a resync the whole list is read anew, whatever comes along with it', async () => {
  const task = { id: 1, title: 'From before' }
  const asked: (string | null)[] = []
  const events = [
    `event: task.created\nid: e.1\ndata: ${JSON.stringify(task)}\n\n`,
    `event: resync\nid: f.7\ndata: {}\n\nevent: task.created\nid: f.8\ndata: {"id":2}\n\nid: f.9\n\n`,
    `event: task.created\nid: f.1\ndata: ${JSON.stringify(task)}\n\n`,
  ]
  const server = Bun.serve({
    port: 0,
    fetch(incoming) {
      asked.push(incoming.headers.get('last-event-id'))
      return new Response(events.shift(), { headers: { 'content-type': 'text/event-stream' } })
    },
  })
  const client = await newClient([good], user, server.url.origin)
  const shown: unknown[] = []
  const stop = new AbortController()
  const following = client.follow(
    stop.signal,
    (list) => {
      shown.push(list)
      if (asked.length === 3) stop.abort()
    },
    () => {},
  )
  await following
  await server.stop(true)
  expect(asked).toEqual(['0', 'e.1', '0'])
  expect(shown).toEqual([[task], [task]])
})
