import { afterAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { startApi, tokenFor, type TaskBody } from '../support/api.ts'
import { codeOf } from '../support/page-code.ts'
import { makeDirectory } from '../support/process.ts'

/** What the sign-in server answers to the page's request for a token, one answer after the other. */
type Answer = () => Promise<{ data?: { token: string } | null; error?: { status: number } | null }>
type Client = {
  tasks: {
    list: () => Promise<TaskBody[]>
    create: (task: { title: string }) => Promise<TaskBody>
  }
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
async function newClient(answers: Answer[], origin = api.origin): Promise<Client> {
  const place = join(directory.path, crypto.randomUUID())
  await (await codeOf('docs/front-end.md')).writeFiles(place, (name) => name === 'lib/tasks.ts')
  await Bun.write(
    join(place, 'lib/auth-client.ts'),
    'export const authClient = { answers: [], token: async () => authClient.answers.shift()() }',
  )
  process.env['NEXT_PUBLIC_API_URL'] = origin
  const { authClient } = (await import(join(place, 'lib/auth-client.ts'))) as {
    authClient: { answers: Answer[] }
  }
  authClient.answers.push(...answers)
  return (await import(join(place, 'lib/tasks.ts'))) as Client
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
  const { tasks } = await newClient(answers)
  expect(await tasks.list()).toEqual([])
})

test('whoever is not signed in is told so at once, and asked again after signing in', async () => {
  const { tasks } = await newClient([refused(401), async () => ({ data: null }), good])
  for (let time = 0; time < 2; time += 1)
    expect(await tasks.list().catch((error: unknown) => error)).toMatchObject({
      status: 401,
      code: 'token_missing',
    })
  expect(await tasks.list()).toEqual([])
})

test('the list is followed on, though no token could be had for a while', async () => {
  const { follow } = await newClient([refused(503), away, good])
  const stop = new AbortController()
  const { promise, resolve } = Promise.withResolvers<TaskBody[]>()
  const followed = follow(stop.signal, resolve, () => {})
  expect(await promise).toEqual([])
  stop.abort()
  await followed
})

test('a task is shown whatever separators of lines its text has', async () => {
  const writer = crypto.randomUUID()
  const token = await tokenFor(writer)
  const title = 'One\u2028two\u2029three'
  await api.request('POST', '/api/tasks', { token, json: { title } })
  const { follow } = await newClient([tokenOf(writer)])
  const stop = new AbortController()
  const { promise, resolve } = Promise.withResolvers<TaskBody[]>()
  const followed = follow(
    stop.signal,
    (list) => list.length > 0 && resolve(list),
    () => {},
  )
  expect((await promise).map((task) => task.title)).toEqual([title])
  stop.abort()
  await followed
})

test('a write whose first sending is still under way is sent again, and done once', async () => {
  const keys: (string | null)[] = []
  const busy = Bun.serve({
    port: 0,
    async fetch(request) {
      keys.push(request.headers.get('idempotency-key'))
      if (keys.length === 1)
        return Response.json(
          { detail: 'It still runs', code: 'idempotency_in_progress' },
          { status: 409, headers: { 'retry-after': '0' } },
        )
      const { pathname, search } = new URL(request.url)
      return fetch(`${api.origin}${pathname}${search}`, request)
    },
  })
  const { tasks } = await newClient([tokenOf(crypto.randomUUID())], busy.url.origin)
  expect(await tasks.create({ title: 'Once' })).toMatchObject({ title: 'Once' })
  expect(keys).toEqual([keys[0]!, keys[0]!])
  await busy.stop(true)
})
