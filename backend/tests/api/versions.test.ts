import { afterAll, describe, expect, test } from 'bun:test'
import * as fc from 'fast-check'
import { failures } from '../../http/failures.ts'
import { database, newUser, startApi, type RequestOptions, type TaskBody } from '../support/api.ts'

const api = startApi()
afterAll(api.stop)

async function newTask(json: object = { title: 'Buy milk' }) {
  const user = await newUser()
  const { body: task } = await api.request<TaskBody>('POST', '/api/tasks', {
    token: user.token,
    json,
  })
  const path = `/api/tasks/${task.id}`
  const request = async <Body = TaskBody>(
    method: string,
    rest: string,
    options: RequestOptions = {},
  ) => api.request<Body>(method, `${path}${rest}`, { token: user.token, ...options })
  return { ...user, task, path, request }
}

type Changed = [string, string, RequestOptions]
const writes: Changed[] = [
  ['PUT', '', { json: { title: 'Changed' } }],
  ['PATCH', '', { json: { title: 'Changed' } }],
  ['PATCH', '/complete', {}],
  ['PATCH', '/complete', { json: { completed: true } }],
  ['DELETE', '', {}],
]

describe('a version', () => {
  test('starts at 1, counts every change, and is the ETag', async () => {
    const { token, request } = await newTask()
    const created = await api.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title: 'x' },
    })
    expect([created.body.version, created.headers.get('etag')]).toEqual([1, '"1"'])
    let version = 1
    for (const [method, rest, options] of writes.slice(0, -1)) {
      const { body, headers } = await request(method, rest, options)
      version += 1
      expect([body.version, headers.get('etag')]).toEqual([version, `"${version}"`])
    }
    const read = await request('GET', '')
    expect([read.body.version, read.headers.get('etag')]).toEqual([version, `"${version}"`])
  })
})

describe('If-Match', () => {
  test.each(writes)('%s%s: the version that was read is taken', async (method, rest, options) => {
    const { request } = await newTask()
    const { status } = await request(method, rest, { ...options, headers: { 'if-match': '"1"' } })
    expect(status).toBe(method === 'DELETE' ? 204 : 200)
  })

  test.each(writes)(
    '%s%s: another is 412 with the task as it is, unchanged',
    async (method, rest, options) => {
      const { task, request } = await newTask()
      const { body: current } = await request('PUT', '', { json: { description: 'newer' } })
      const answer = await request<unknown>(method, rest, {
        ...options,
        headers: { 'if-match': '"1"' },
      })
      expect(answer.status).toBe(412)
      expect(answer.body).toEqual({
        detail: failures.version_conflict.detail,
        code: 'version_conflict',
        request_id: answer.headers.get('x-request-id'),
        current,
      })
      expect((await request('GET', '')).body).toEqual({ ...task, ...current })
    },
  )

  test.each([
    ['*', 200],
    ['W/"1"', 200],
    ['"1-gzip"', 200],
    ['"1--gzip"', 200],
    ['W/"1-br"', 200],
    ['"9", "1"', 200],
    ['"9","8" , W/"1"', 200],
    ['"2"', 412],
    ['"01x"', 412],
    ['"abc"', 412],
    ['""', 412],
    ['"1.0"', 412],
    ['"99999999999999999999"', 412],
    ['1', 422],
    ['', 422],
    ['"1', 422],
    ['"1",', 200],
    [', "1" ,,', 200],
    [',', 422],
    ['"a,b", "1"', 200],
    ["'1'", 422],
    ['w/"1"', 422],
  ])('%s is %d', async (header, status) => {
    const { request } = await newTask()
    const answer = await request<unknown>('PUT', '', {
      json: { title: 'x' },
      headers: { 'if-match': header },
    })
    expect(answer.status).toBe(status)
    if (status === 422)
      expect(answer.body).toMatchObject({
        code: 'validation_failed',
        errors: [{ field: 'If-Match', detail: 'must be * or entity tags in quotes, such as "7"' }],
      })
  })

  test('somebody else’s task and a missing one stay 403 and 404', async () => {
    const [hers, mine] = [await newTask(), await newTask()]
    const headers = { 'if-match': '"9"' }
    const json = { title: 'x' }
    expect((await api.request('PUT', hers.path, { token: mine.token, json, headers })).status).toBe(
      403,
    )
    expect(
      (
        await api.request('PUT', '/api/tasks/9007199254740991', {
          token: mine.token,
          json,
          headers,
        })
      ).status,
    ).toBe(404)
  })

  test('of 30 writers at once exactly one wins, and the others see its task', async () => {
    const { id: user, request } = await newTask()
    const answers = await Promise.all(
      Array.from({ length: 30 }, async (_, number) =>
        request<TaskBody & { current: TaskBody }>('PUT', '', {
          json: { title: `Writer ${number}` },
          headers: { 'if-match': '"1"' },
        }),
      ),
    )
    const winners = answers.filter(({ status }) => status === 200)
    expect(winners).toHaveLength(1)
    for (const { status, body } of answers)
      if (status !== 200) expect([status, body.current]).toEqual([412, winners[0]!.body])
    expect(
      await database.query`select title, version from todo_api.tasks where user_id = ${user}`,
    ).toEqual([{ title: winners[0]!.body.title, version: 2 }])
  })
})

test('100 toggles at once are 100 changes', async () => {
  const { request } = await newTask()
  const answers = await Promise.all(
    Array.from({ length: 100 }, async () => request('PATCH', '/complete')),
  )
  const versions = answers.map(({ body }) => body.version).toSorted((a, b) => a - b)
  expect(versions).toEqual(Array.from({ length: 100 }, (_, index) => index + 2))
  for (const { body } of answers) expect(body.completed).toBe(body.version % 2 === 0)
  expect((await request('GET', '')).body).toMatchObject({ version: 101, completed: false })
})

test('writers of different fields at once do not overwrite each other', async () => {
  const { request } = await newTask()
  const fields = [
    { title: 'New' },
    { description: 'new' },
    { completed: true },
    { priority: 'high' },
    { tags: ['a', 'b'] },
    { due_date: '2026-03-01' },
  ]
  await Promise.all(fields.map(async (json) => request('PATCH', '', { json })))
  expect((await request('GET', '')).body).toMatchObject({
    ...Object.assign({}, ...fields),
    version: 7,
  })
})

describe('If-None-Match', () => {
  test('on a task: 304 without a body while it is unchanged', async () => {
    const { request } = await newTask()
    for (const known of ['"1"', 'W/"1"', '"1-gzip"', '"5", "1"', '*']) {
      const { status, text, headers } = await request('GET', '', {
        headers: { 'if-none-match': known },
      })
      expect([status, text, headers.get('etag')]).toEqual([304, '', '"1"'])
      expect(headers.get('vary')).toBe('Authorization, Origin')
      expect(headers.get('cache-control')).toBe('private, no-cache')
    }
    await request('PATCH', '/complete')
    expect((await request('GET', '', { headers: { 'if-none-match': '"1"' } })).status).toBe(200)
    const refused = await request('GET', '', { headers: { 'if-none-match': '2' } })
    expect([refused.status, refused.headers.get('etag')]).toEqual([422, null])
  })

  test('on the list: 304 until something in it changes', async () => {
    const { token, request } = await newTask()
    const list = async (query: string, known: string) =>
      api.request('GET', `/api/tasks${query}`, { token, headers: { 'if-none-match': known } })
    let tag = (await api.request('GET', '/api/tasks', { token })).headers.get('etag')!
    for (const [method, rest, options] of writes) {
      const { status, text, headers } = await list('', tag)
      expect([status, text, headers.get('etag')]).toEqual([304, '', tag])
      expect((await list('?status=pending', tag)).status).toBe(200)
      await request(method, rest, options)
      const changed = await list('', tag)
      expect(changed.status).toBe(200)
      tag = changed.headers.get('etag')!
    }
    await api.request('POST', '/api/tasks', { token, json: { title: 'x' } })
    expect((await list('', tag)).status).toBe(200)
  })

  test('one user’s tag says nothing about another’s list', async () => {
    const [alice, bob] = [await newUser(), await newUser()]
    const { headers } = await api.request('GET', '/api/tasks', alice)
    const known = { 'if-none-match': headers.get('etag')! }
    expect(
      (await api.request('GET', '/api/tasks', { token: bob.token, headers: known })).status,
    ).toBe(200)
    expect(
      (await api.request('GET', '/api/tasks', { token: alice.token, headers: known })).status,
    ).toBe(304)
  })
})

describe('changing one field', () => {
  const text = (maxLength: number, minLength = 0) =>
    fc
      .string({ unit: 'grapheme', minLength, maxLength: Math.floor(maxLength / 4) })
      .filter((value) => !value.includes('\0') && Array.from(value).length <= maxLength)
  const dueDate = fc
    .date({ min: new Date('0001-01-03'), max: new Date('9999-12-29'), noInvalidDate: true })
    .map((date) => date.toISOString().slice(0, 10))
  const fields = {
    title: text(200, 1).filter((value) => value.trim() !== ''),
    description: fc.option(text(1000)),
    completed: fc.boolean(),
    priority: fc.constantFrom('none', 'low', 'medium', 'high'),
    tags: fc.uniqueArray(text(50, 1), { maxLength: 20 }),
    due_date: dueDate,
    due_time: fc.option(fc.constantFrom('00:00', '02:30', '09:05', '23:59')),
    due_timezone: fc.option(
      fc.constantFrom('Europe/Paris', 'America/New_York', 'Pacific/Kiritimati', 'UTC'),
    ),
  }
  const rowOf = async (id: number) =>
    (
      await database.query<Record<string, unknown>>`
        select title, description, completed, priority::text, array_to_json(tags)::text as tags,
          due_date::text, to_char(due_time, 'HH24:MI') as due_time, due_timezone,
          user_id, id, created_at::text, completed_at::text, due_at::text
        from todo_api.tasks where id = ${id}`
    )[0]!

  test.each(['PUT', 'PATCH'])('%s leaves every other byte of the row as it was', async (method) => {
    await fc.assert(
      fc.asyncProperty(
        fc.record(fields),
        fc.oneof(
          ...Object.entries(fields).map(([name, value]) =>
            (value as fc.Arbitrary<unknown>).map((drawn) => [name, drawn] as const),
          ),
        ),
        async (task, [field, value]) => {
          const { task: created, request } = await newTask(task)
          expect(created).toMatchObject({ ...task, title: task.title.trim() })
          const before = await rowOf(created.id)
          const { status, body } = await request(method, '', { json: { [field]: value } })
          expect(status).toBe(200)
          const wanted = field === 'title' ? String(value).trim() : value
          expect(body).toMatchObject({ [field]: wanted, version: 2 })
          const after = await rowOf(created.id)
          const computed =
            field === 'completed' ? ['completed_at'] : field.startsWith('due_') ? ['due_at'] : []
          for (const column of Object.keys(before))
            if (column !== field && !computed.includes(column))
              expect([column, after[column]]).toEqual([column, before[column]])
        },
      ),
      { numRuns: 60 },
    )
  })
})

describe('PATCH as a merge patch (RFC 7396)', () => {
  const full = {
    title: 'Full',
    description: 'text',
    priority: 'high',
    tags: ['a'],
    due_date: '2026-03-01',
    due_time: '09:30',
    due_timezone: 'Europe/Paris',
  }

  test('a field left out keeps its value, and null clears one that may be null', async () => {
    const { request } = await newTask(full)
    const headers = { 'content-type': 'application/merge-patch+json' }
    const patch = async (json: object) =>
      request('PATCH', '', { body: JSON.stringify(json), headers })
    expect((await patch({ description: null })).body).toMatchObject({ ...full, description: null })
    expect((await patch({ due_timezone: null })).body).toMatchObject({
      due_time: '09:30',
      due_timezone: null,
      due_at: null,
    })
    expect((await patch({ due_date: null })).body).toMatchObject({
      due_date: null,
      due_time: null,
      due_timezone: null,
    })
  })

  test.each(['title', 'completed', 'priority', 'tags'])('null for %s is refused', async (field) => {
    const { task, request } = await newTask(full)
    const { status, body } = await request<unknown>('PATCH', '', { json: { [field]: null } })
    expect(status).toBe(422)
    expect(body).toMatchObject({ code: 'validation_failed', errors: [{ field }] })
    expect((await request('GET', '')).body).toEqual(task)
  })

  test('the media type is for PATCH alone', async () => {
    const { request } = await newTask()
    const headers = { 'content-type': 'application/merge-patch+json' }
    expect((await request('PUT', '', { body: '{"title":"x"}', headers })).status).toBe(415)
    expect(
      (
        await request('PATCH', '', {
          body: '{"title":"x"}',
          headers: { 'content-type': 'text/plain' },
        })
      ).status,
    ).toBe(415)
  })
})
