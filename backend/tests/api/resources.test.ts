import { afterAll, describe, expect, test } from 'bun:test'
import { database, databaseThat, newUser, startApi, type TaskBody } from '../support/api.ts'
import { openEvents } from '../support/events.ts'

/** What one user, or a stranger, can make the server do and keep (OWASP API4:2023). */

const api = startApi()
afterAll(api.stop)

describe('streams of events', () => {
  test('beyond the limit end the user’s oldest, and nobody else’s', async () => {
    const limited = startApi({ settings: { MAX_STREAMS_PER_USER: '2' } })
    const open = async (token: string) =>
      openEvents(`${limited.origin}/api/tasks/events`, { authorization: `Bearer ${token}` })
    const { token } = await newUser()
    const bystander = await newUser()
    const other = await open(bystander.token)
    const first = await open(token)
    const second = await open(token)
    const third = await open(token)
    await first.ended
    for (const user of [token, bystander.token])
      await limited.request('POST', '/api/tasks', { token: user, json: { title: 'Seen' } })
    await Promise.all([other, second, third].map(async (stream) => stream.received(1)))
    expect(first.events).toEqual([])
    for (const stream of [other, second, third]) stream.close()
    await limited.stop()
  })
})

describe('/ready', () => {
  test('asks the database once for all who ask at a time', async () => {
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
    let statements = 0
    const slow = startApi({
      over: databaseThat(async (strings, ...parameters) => {
        statements += 1
        await answered
        return database.query(strings, ...parameters)
      }),
    })
    const probes = Array.from({ length: 20 }, async () => slow.request('GET', '/ready'))
    // A later request has been answered, so those before it have been received.
    await slow.request('GET', '/health')
    answer()
    expect(new Set((await Promise.all(probes)).map(({ status }) => status))).toEqual(new Set([200]))
    expect(statements).toBeLessThan(20)
    const before = statements
    expect((await slow.request('GET', '/ready')).status).toBe(200)
    expect(statements).toBe(before + 1)
    await slow.stop()
  })
})

describe('a request', () => {
  const longest = 'x'.repeat(8192)
  test.each([
    ['GET', '/api/tasks/1', 'if-none-match', `"${longest}"`],
    ['GET', '/api/tasks', 'if-none-match', `"${longest}"`],
    ['DELETE', '/api/tasks/1', 'if-match', '"1",'.repeat(2100)],
    ['POST', '/api/tasks', 'idempotency-key', `${longest}x`],
    ['GET', '/api/tasks/events', 'last-event-id', `${longest}x`],
  ])('%s %s with %s of over 8 KiB is not worked on', async (method, path, name, value) => {
    const { token } = await newUser()
    const { status, body } = await api.request<{ errors: object[] }>(method, path, {
      token,
      headers: { [name]: value },
      ...(method === 'POST' && { json: { title: 'x' } }),
    })
    expect(status).toBe(422)
    expect(body.errors).toEqual([
      {
        field: name,
        detail:
          'must be text of 0 to 8192 characters, without control characters (but tab, line feed, carriage return) and lone surrogates',
      },
    ])
  })

  test('searches for 20 different words at most; each is looked for in every task', async () => {
    const { token } = await newUser()
    const words = Array.from({ length: 21 }, (_, index) => `w${index}`)
    const search = async (text: string) =>
      api.request<TaskBody[]>('GET', `/api/tasks?${new URLSearchParams({ q: text }).toString()}`, {
        token,
      })
    expect((await search(words.slice(1).join(' '))).status).toBe(200)
    expect((await search('again '.repeat(33))).status).toBe(200)
    const { status, body } = await search(words.join(' '))
    expect({ status, body }).toMatchObject({
      status: 422,
      body: { errors: [{ field: 'q', detail: 'must be 20 different words at most' }] },
    })
    const searched = await api.request('GET', `/api/tasks?search=${words.join('+')}`, { token })
    expect(searched.body).toMatchObject({ errors: [{ field: 'search' }] })
  })
})

describe('the trash', () => {
  test('shows as many tasks as a user may have, the last deleted first', async () => {
    const limited = startApi({ settings: { MAX_TASKS_PER_USER: '2' } })
    const { token } = await newUser()
    for (const title of ['first', 'second', 'third']) {
      const { body } = await limited.request<TaskBody>('POST', '/api/tasks', {
        token,
        json: { title },
      })
      await limited.request('DELETE', `/api/tasks/${body.id}`, { token })
    }
    const { body } = await limited.request<TaskBody[]>('GET', '/api/tasks/trash', { token })
    expect(body.map(({ title }) => title)).toEqual(['third', 'second'])
    await limited.stop()
  })
})
