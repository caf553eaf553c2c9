import { afterAll, describe, expect, test } from 'bun:test'
import { failures } from '../../http/failures.ts'
import {
  database,
  newUser,
  rowsOf,
  startApi,
  type RequestOptions,
  type TaskBody,
} from '../support/api.ts'

const api = startApi()
afterAll(api.stop)

const named = (key: string) => ({ 'idempotency-key': key })
const json = { title: 'Once', tags: ['a', 'b'], due_date: '2026-03-01' }

async function newTask(token: string): Promise<TaskBody> {
  return (await api.request<TaskBody>('POST', '/api/tasks', { token, json: { title: 'x' } })).body
}

describe('a repeated request', () => {
  test('is answered again, to the byte, and not done again', async () => {
    const { id: user, token } = await newUser()
    const options = { token, json, headers: named('create-1') }
    const first = await api.request<TaskBody>('POST', '/api/tasks', options)
    expect([first.status, first.headers.get('idempotent-replayed')]).toEqual([201, null])
    await api.request('PUT', `/api/tasks/${first.body.id}`, {
      token,
      json: { title: 'Changed since' },
    })
    const restarted = startApi()
    for (const server of [api, restarted]) {
      const again = await server.request('POST', '/api/tasks', options)
      expect([again.status, again.text]).toEqual([201, first.text])
      expect(again.headers.get('idempotent-replayed')).toBe('true')
      for (const name of ['etag', 'location', 'content-type'])
        expect([name, again.headers.get(name)]).toEqual([name, first.headers.get(name)])
    }
    await restarted.stop()
    expect(await rowsOf(user)).toMatchObject([{ title: 'Changed since' }])
  })

  const changes: [string, string, RequestOptions][] = [
    ['PUT', '', { json: { title: 'Changed' } }],
    ['PATCH', '', { json: { description: 'Changed' } }],
    ['PATCH', '/complete', {}],
    ['PATCH', '/complete', { json: { completed: true } }],
    ['DELETE', '', {}],
  ]
  test.each(changes)('%s %s counts once', async (method, rest, options) => {
    const { id: user, token } = await newUser()
    const { id } = await newTask(token)
    const headers = { ...named('change-1'), 'if-match': '"1"' }
    const send = async () =>
      api.request(method, `/api/tasks/${id}${rest}`, { token, ...options, headers })
    const first = await send()
    const again = await send()
    expect(first.status).toBe(method === 'DELETE' ? 204 : 200)
    expect([again.status, again.text]).toEqual([first.status, first.text])
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    const versions =
      await database.query`select version from todo_api.tasks where user_id = ${user}`
    expect(versions).toEqual([{ version: 2 }])
    expect(
      await database.query`select counter from todo_api.task_lists where user_id = ${user}`,
    ).toEqual([{ counter: 2 }])
  })

  test('50 at once make one task; every answer is that task or says that it is being made', async () => {
    const { id: user, token } = await newUser()
    const options = { token, json, headers: named('burst') }
    const answers = await Promise.all(
      Array.from({ length: 50 }, async () => api.request('POST', '/api/tasks', options)),
    )
    const [row] = await rowsOf(user)
    expect(await rowsOf(user)).toHaveLength(1)
    for (const { status, body, headers } of answers) {
      expect([201, 409]).toContain(status)
      if (status === 201) expect(body).toMatchObject({ id: row!.id })
      else {
        expect(body).toMatchObject({ code: 'idempotency_in_progress' })
        expect(headers.get('retry-after')).toBe('1')
      }
    }
    expect(
      answers.filter(
        ({ headers, status }) => status === 201 && headers.get('idempotent-replayed') === null,
      ),
    ).toHaveLength(1)
    expect((await api.request('POST', '/api/tasks', options)).body).toMatchObject({ id: row!.id })
  })

  test('under the user’s path is the same request', async () => {
    const { id: user, token } = await newUser()
    const options = { token, json, headers: named('mount') }
    const first = await api.request('POST', '/api/tasks', options)
    const again = await api.request('POST', `/api/${user}/tasks`, options)
    expect(again.text).toBe(first.text)
    expect(await rowsOf(user)).toHaveLength(1)
  })

  test('in other words, with the same meaning, is the same request', async () => {
    const { id: user, token } = await newUser()
    const headers = { ...named('"quoted"'), 'content-type': 'application/json' }
    const first = await api.request('POST', '/api/tasks', {
      token,
      headers,
      body: '{"title":"A","completed":false}',
    })
    const again = await api.request('POST', '/api/tasks', {
      token,
      headers: { ...headers, ...named('quoted') },
      body: ' {"completed":false, "unknown":1, "title" : " A "}',
    })
    expect(again.text).toBe(first.text)
    expect(await rowsOf(user)).toHaveLength(1)
  })
})

describe('the same key', () => {
  test('with another request is refused and changes nothing', async () => {
    const { id: user, token } = await newUser()
    const { id } = await newTask(token)
    const headers = named('reused')
    await api.request('POST', '/api/tasks', { token, json, headers })
    const before = await rowsOf(user)
    const others: [string, string, RequestOptions][] = [
      ['POST', '/api/tasks', { json: { ...json, title: 'Other' } }],
      ['PUT', `/api/tasks/${id}`, { json }],
      ['PATCH', `/api/tasks/${id}/complete`, {}],
      ['DELETE', `/api/tasks/${id}`, {}],
    ]
    for (const [method, path, options] of others) {
      const answer = await api.request(method, path, { token, ...options, headers })
      expect(answer.status).toBe(422)
      expect(answer.body).toEqual({
        detail: 'Idempotency-Key: was used for another request',
        code: 'idempotency_key_reused',
        request_id: answer.headers.get('x-request-id'),
        errors: [{ field: 'Idempotency-Key', detail: 'was used for another request' }],
      })
      expect(await rowsOf(user)).toEqual(before)
    }
  })

  test('of two users never meets', async () => {
    const [alice, bob] = [await newUser(), await newUser()]
    const headers = named('shared')
    const hers = await api.request<TaskBody>('POST', '/api/tasks', {
      token: alice.token,
      json,
      headers,
    })
    const his = await api.request<TaskBody>('POST', '/api/tasks', {
      token: bob.token,
      json,
      headers,
    })
    expect(his.headers.get('idempotent-replayed')).toBeNull()
    expect(his.body.id).not.toBe(hers.body.id)
  })

  test('may be used for the corrected request after a refusal', async () => {
    const { id: user, token } = await newUser()
    const { id } = await newTask(token)
    const headers = named('mended')
    expect(
      (await api.request('POST', '/api/tasks', { token, json: { title: '' }, headers })).status,
    ).toBe(422)
    expect(
      (await api.request('PUT', '/api/tasks/9007199254740991', { token, json, headers })).status,
    ).toBe(404)
    expect(
      (
        await api.request('PUT', `/api/tasks/${id}`, {
          token,
          json,
          headers: { ...headers, 'if-match': '"9"' },
        })
      ).status,
    ).toBe(412)
    expect((await api.request('PUT', `/api/tasks/${id}`, { token, json, headers })).status).toBe(
      200,
    )
    expect(await rowsOf(user)).toMatchObject([{ title: 'Once' }])
  })

  test('may be used for something else after 24 hours', async () => {
    const { id: user, token } = await newUser()
    const options = { token, json, headers: named('daily') }
    await api.request('POST', '/api/tasks', options)
    const age = async (hours: number) =>
      database.query`
        update todo_api.idempotency_keys set created_at = now() - make_interval(hours => ${hours}::int)
        where user_id = ${user}`
    await age(23)
    expect(
      (await api.request('POST', '/api/tasks', options)).headers.get('idempotent-replayed'),
    ).toBe('true')
    await age(24)
    const next = await api.request('POST', '/api/tasks', options)
    expect([next.status, next.headers.get('idempotent-replayed')]).toEqual([201, null])
    expect(await rowsOf(user)).toHaveLength(2)
    expect((await api.request('POST', '/api/tasks', options)).text).toBe(next.text)
  })

  test.each(['', ' ', 'a b', 'x'.repeat(256), '""'])('%p is no key', async (key) => {
    const { id: user, token } = await newUser()
    const answer = await api.request('POST', '/api/tasks', { token, json, headers: named(key) })
    expect(answer.status).toBe(422)
    expect(answer.body).toMatchObject({
      code: 'validation_failed',
      errors: [
        {
          field: 'Idempotency-Key',
          detail: 'must be 1 to 255 visible ASCII characters, such as a UUID',
        },
      ],
    })
    expect(await rowsOf(user)).toEqual([])
  })
})

test('no user has more tasks than the limit', async () => {
  const small = startApi({ settings: { MAX_TASKS_PER_USER: '3' } })
  const { id: user, token } = await newUser()
  const create = async () => small.request<TaskBody>('POST', '/api/tasks', { token, json })
  const answers = await Promise.all(Array.from({ length: 10 }, create))
  expect(answers.filter(({ status }) => status === 201)).toHaveLength(3)
  const refused = answers.find(({ status }) => status !== 201)!
  expect(refused.status).toBe(409)
  expect(refused.body as unknown).toEqual({
    detail: failures.task_limit_reached.detail,
    code: 'task_limit_reached',
    request_id: refused.headers.get('x-request-id'),
  })
  expect(await rowsOf(user)).toHaveLength(3)
  const [first] = await rowsOf(user)
  expect((await small.request('DELETE', `/api/tasks/${first!.id}`, { token })).status).toBe(204)
  expect((await create()).status).toBe(201)
  expect((await create()).status).toBe(409)
  await small.stop()
})
