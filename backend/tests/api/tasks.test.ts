import { afterAll, describe, expect, test } from 'bun:test'
import { newUser, rowsOf, startApi, tokenFor, unsetFields, type TaskBody } from '../support/api.ts'

const api = startApi()
afterAll(api.stop)

const instant = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)

async function create(token: string, json: object = { title: 'Buy milk' }): Promise<TaskBody> {
  const { body } = await api.request<TaskBody>('POST', '/api/tasks', { token, json })
  return body
}

describe('creating', () => {
  test('a title is enough, and the answer is the task and where it is', async () => {
    const { id: user, token } = await newUser()
    const { status, headers, body } = await api.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title: 'Buy milk' },
    })
    expect(status).toBe(201)
    expect(body).toEqual({
      id: expect.any(Number),
      title: 'Buy milk',
      description: null,
      completed: false,
      ...unsetFields,
      completed_at: null,
      created_at: instant,
      updated_at: instant,
      version: 1,
    })
    expect(headers.get('location')).toBe(`/api/tasks/${body.id}`)
    expect(headers.get('content-type')).toMatch(/^application\/json/)
    expect(Math.abs(Date.parse(body.created_at) - Date.now())).toBeLessThan(60_000)
    expect(await rowsOf(user)).toMatchObject([
      { id: body.id, user_id: user, title: 'Buy milk', description: null, completed: false },
    ])
  })

  test('all fields are kept, and the title is trimmed', async () => {
    const { token } = await newUser()
    const json = { title: ' \t Milch für Zoë 🥛\n', description: ' two\nlitres ', completed: true }
    const created = await create(token, json)
    expect(created).toMatchObject({
      title: 'Milch für Zoë 🥛',
      description: ' two\nlitres ',
      completed: true,
    })
    const read = await api.request('GET', `/api/tasks/${created.id}`, { token })
    expect(read.body).toEqual(created)
  })

  test('a body that names another user or an id is taken for what it may say', async () => {
    const { id: user, token } = await newUser()
    const created = await create(token, {
      title: 'Mine',
      user_id: 'bob',
      id: 1,
      created_at: '2001-01-01T00:00:00Z',
      __proto__: { completed: true },
    })
    expect(await rowsOf(user)).toMatchObject([{ id: created.id, user_id: user, title: 'Mine' }])
    expect(created).not.toHaveProperty('user_id')
    expect(Date.parse(created.created_at)).toBeGreaterThan(Date.parse('2020-01-01'))
  })
})

describe('listing', () => {
  test('a user without tasks gets an empty array', async () => {
    const { token } = await newUser()
    const { status, body } = await api.request('GET', '/api/tasks', { token })
    expect({ status, body }).toEqual({ status: 200, body: [] })
  })

  test('the caller gets all of their tasks and nobody else’s, oldest first', async () => {
    const [alice, bob] = [await newUser(), await newUser()]
    const mine: TaskBody[] = []
    for (let number = 0; number < 60; number += 1) {
      mine.push(await create(alice.token, { title: `Task ${number}` }))
      if (number % 10 === 0) await create(bob.token, { title: 'Not hers' })
    }
    const { body } = await api.request('GET', '/api/tasks', alice)
    expect(body).toEqual(mine)
  })

  test('status selects all, pending or completed', async () => {
    const { token } = await newUser()
    const pending = await create(token)
    const done = await create(token, { title: 'Done', completed: true })
    const list = async (query: string) =>
      (await api.request('GET', `/api/tasks${query}`, { token })).body
    expect(await list('')).toEqual([pending, done])
    expect(await list('?status=all')).toEqual([pending, done])
    expect(await list('?status=pending')).toEqual([pending])
    expect(await list('?status=completed')).toEqual([done])
    expect(await list('?status=completed&unknown=1')).toEqual([done])
  })
})

describe('changing', () => {
  test.each([
    [{ title: 'New' }, { title: 'New', description: 'old', completed: true }],
    [{ description: 'new' }, { title: 'Old', description: 'new', completed: true }],
    [{ description: null }, { title: 'Old', description: null, completed: true }],
    [{ description: '' }, { title: 'Old', description: '', completed: true }],
    [{ completed: false }, { title: 'Old', description: 'old', completed: false }],
    [
      { title: 'New', completed: false },
      { title: 'New', description: 'old', completed: false },
    ],
  ])('PUT %j keeps what it does not name', async (json, expected) => {
    const { id: user, token } = await newUser()
    const before = await create(token, { title: 'Old', description: 'old', completed: true })
    const { status, body } = await api.request<TaskBody>('PUT', `/api/tasks/${before.id}`, {
      token,
      json,
    })
    expect(status).toBe(200)
    expect(body).toEqual({
      ...before,
      ...expected,
      completed_at: expected.completed ? before.completed_at : null,
      updated_at: instant,
      version: 2,
    })
    expect(await rowsOf(user)).toMatchObject([{ id: before.id, ...expected }])
    expect(Date.parse(body.updated_at)).toBeGreaterThanOrEqual(Date.parse(before.updated_at))
  })

  test('a client may send back what it read', async () => {
    const { token } = await newUser()
    const before = await create(token)
    const { status, body } = await api.request('PUT', `/api/tasks/${before.id}`, {
      token,
      json: { ...before, title: 'Changed' },
    })
    expect(status).toBe(200)
    expect(body).toEqual({ ...before, title: 'Changed', updated_at: instant, version: 2 })
  })
})

describe('completing', () => {
  const bodies: [string, { json?: unknown; headers?: Record<string, string> }][] = [
    ['no body', {}],
    ['an empty object', { json: {} }],
    ['a JSON content type and no body at all', { headers: { 'content-type': 'application/json' } }],
  ]
  test.each(bodies)('%s toggles', async (_, options) => {
    const { token } = await newUser()
    const before = await create(token)
    const complete = async () =>
      (await api.request('PATCH', `/api/tasks/${before.id}/complete`, { token, ...options })).body
    expect(await complete()).toEqual({
      ...before,
      completed: true,
      completed_at: instant,
      updated_at: instant,
      version: 2,
    })
    expect(await complete()).toEqual({
      ...before,
      completed: false,
      updated_at: instant,
      version: 3,
    })
  })

  test('completed in the body sets, however often', async () => {
    const { token } = await newUser()
    const before = await create(token)
    for (const completed of [true, true, false, false]) {
      const { body } = await api.request('PATCH', `/api/tasks/${before.id}/complete`, {
        token,
        json: { completed },
      })
      expect(body).toEqual({
        ...before,
        completed,
        completed_at: completed ? instant : null,
        updated_at: instant,
        version: expect.any(Number),
      })
    }
  })

  test('100 toggles at once all count', async () => {
    const { id: user, token } = await newUser()
    const { id } = await create(token)
    const toggles = Array.from({ length: 101 }, async () =>
      api.request('PATCH', `/api/tasks/${id}/complete`, { token }),
    )
    expect((await Promise.all(toggles)).every(({ status }) => status === 200)).toBe(true)
    expect(await rowsOf(user)).toMatchObject([{ completed: true }])
  })
})

describe('deleting', () => {
  test('the task is gone, and the answer has no body', async () => {
    const { id: user, token } = await newUser()
    const kept = await create(token)
    const { id } = await create(token)
    const { status, text, headers } = await api.request('DELETE', `/api/tasks/${id}`, { token })
    expect({ status, text }).toEqual({ status: 204, text: '' })
    expect(headers.get('content-type')).toBeNull()
    expect(await rowsOf(user)).toMatchObject([{ id: kept.id }])
    expect((await api.request('GET', `/api/tasks/${id}`, { token })).status).toBe(404)
    expect((await api.request('DELETE', `/api/tasks/${id}`, { token })).status).toBe(404)
  })
})

describe('paths', () => {
  test('a trailing slash changes nothing', async () => {
    const { token } = await newUser()
    const { status, body } = await api.request<TaskBody>('POST', '/api/tasks/', {
      token,
      json: { title: 'Slash' },
    })
    expect(status).toBe(201)
    const one = `/api/tasks/${body.id}/`
    expect((await api.request('GET', '/api/tasks/', { token })).body).toEqual([body])
    expect((await api.request('GET', one, { token })).body).toEqual(body)
    expect((await api.request('PUT', one, { token, json: { title: 'x' } })).status).toBe(200)
    expect((await api.request('PATCH', `${one}complete/`, { token })).status).toBe(200)
    expect((await api.request('DELETE', one, { token })).status).toBe(204)
  })

  test('HEAD answers as GET does, without the body', async () => {
    const { token } = await newUser()
    const { id } = await create(token)
    for (const path of ['/health', '/ready', '/docs', '/api/tasks', `/api/tasks/${id}`]) {
      const get = await api.request('GET', path, { token })
      const head = await api.request('HEAD', path, { token })
      expect(head.status).toBe(get.status)
      expect(head.text).toBe('')
      expect(head.headers.get('content-type')).toBe(get.headers.get('content-type'))
    }
    expect((await api.request('HEAD', '/api/tasks')).status).toBe(401)
    expect((await api.request('HEAD', '/api/tasks/999999999', { token })).status).toBe(404)
  })
})

describe('the same routes under the user’s id', () => {
  test('a task lives the same life there', async () => {
    const { id: user, token } = await newUser()
    const tasks = `/api/${user}/tasks`
    const created = await api.request<TaskBody>('POST', tasks, { token, json: { title: 'Here' } })
    expect(created.status).toBe(201)
    const task = created.body
    expect(created.headers.get('location')).toBe(`/api/tasks/${task.id}`)
    expect((await api.request('GET', tasks, { token })).body).toEqual([task])
    expect((await api.request('GET', `${tasks}?status=completed`, { token })).body).toEqual([])
    expect((await api.request('GET', `${tasks}/${task.id}`, { token })).body).toEqual(task)
    const put = await api.request('PUT', `${tasks}/${task.id}`, { token, json: { title: 'There' } })
    expect(put.body).toEqual({ ...task, title: 'There', updated_at: instant, version: 2 })
    const patch = await api.request('PATCH', `${tasks}/${task.id}/complete`, { token })
    expect(patch.body).toMatchObject({ completed: true })
    expect((await api.request('DELETE', `${tasks}/${task.id}/`, { token })).status).toBe(204)
    expect(await rowsOf(user)).toEqual([])
  })

  test.each(['a b', 'auth0|5f7c', 'mail@example.com', 'a/b', 'ü', '%', 'tasks'])(
    'the user %p is found in the path as it is encoded',
    async (suffix) => {
      const user = suffix === 'tasks' ? suffix : `${crypto.randomUUID()}${suffix}`
      const token = await tokenFor(user)
      const path = `/api/${encodeURIComponent(user)}/tasks/999999999`
      expect((await api.request('GET', path, { token })).body).toMatchObject({
        code: 'task_not_found',
      })
    },
  )

  test('fixed paths win over it', async () => {
    const token = await tokenFor('tasks')
    const { status, body } = await api.request('GET', '/api/tasks/tasks', { token })
    expect(status).toBe(422)
    expect(body).toMatchObject({ code: 'validation_failed', errors: [{ field: 'id' }] })
  })
})
