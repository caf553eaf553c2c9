import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { newUser, rowsOf, startApi, tokenFor, type TaskBody } from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { eventually } from '../support/eventually.ts'

const api = startApi()
const { request } = api
afterAll(async () => api.stop())

type Told = TaskBody & { is_completed: boolean; status: string }
type List = { tasks: Told[]; total: number; count: number }
type Items = { items: Told[]; total: number; limit: number; offset: number }

const dialects = ['/compat/array', '/compat/tasks', '/compat/items']

async function userWith(...tasks: object[]) {
  const user = await newUser()
  const created: TaskBody[] = []
  for (const json of tasks)
    created.push((await request<TaskBody>('POST', '/api/tasks', { ...user, json })).body)
  return { ...user, tasks: created }
}

/** What the API itself says of a task, whatever a dialect says. */
async function stored(user: { token: string }, id: number) {
  return (await request<TaskBody>('GET', `/api/tasks/${id}`, user)).body
}

describe('the list', () => {
  const two = [{ title: 'One' }, { title: 'Two' }]

  test.each([
    ['/compat/array/api/tasks', (list: unknown[]) => list],
    ['/compat/tasks/api/tasks', (tasks: unknown[]) => ({ tasks, total: 2, count: 2 })],
    ['/compat/items/api/tasks', (items: unknown[]) => ({ items, total: 2, limit: 2, offset: 0 })],
  ])('of %s is wrapped as its name says', async (path, wrapped) => {
    const { tasks, ...user } = await userWith(...two)
    const told = tasks.map((task) => ({
      ...task,
      is_completed: false,
      status: 'pending',
      priority: 'medium',
    }))
    const { status, headers, body } = await request('GET', path, user)
    expect(status).toBe(200)
    expect(body).toEqual(wrapped(told))
    expect(headers.get('content-type')).toBe('application/json')
    expect(headers.get('x-total-count')).toBe('2')
    const again = { 'if-none-match': headers.get('etag')! }
    expect(await request('GET', path, { ...user, headers: again })).toMatchObject({
      status: 304,
      text: '',
    })
  })

  test('of a user without tasks is wrapped too', async () => {
    const user = await newUser()
    expect((await request('GET', '/compat/array/tasks', user)).body).toEqual([])
    expect((await request('GET', '/compat/tasks/tasks', user)).body).toEqual({
      tasks: [],
      total: 0,
      count: 0,
    })
    expect((await request('GET', '/compat/items/tasks', user)).body).toEqual({
      items: [],
      total: 0,
      limit: 1,
      offset: 0,
    })
  })

  test.each([
    ['is_completed=true', ['Done']],
    ['status=pending', ['One', 'Two']],
    ['search=wo', ['Two']],
    ['is_completed=false&limit=1', ['One']],
    ['status=true', ['Done']],
    ['status=False', ['One', 'Two']],
    ['status=active&priority=', ['One', 'Two']],
    ['task_status=pending', ['One', 'Two']],
    ['status_filter=completed&page=1&limit=20', ['Done']],
    ['status_filter=in_progress', ['One', 'Two', 'Done']],
    ['is_completed=TRUE', ['Done']],
    ['is_completed=maybe', ['One', 'Two', 'Done']],
    ['task_status=constructor', ['One', 'Two', 'Done']],
    ['sort_by=title&sort_order=desc', ['Two', 'One', 'Done']],
    ['sort_by=createdAt&sort_order=DESC', ['Done', 'Two', 'One']],
    ['sort_by=title&order=asc&page=1&limit=2', ['Done', 'One']],
    ['sort_by=manual_order&date_preset=today&category=work', ['One', 'Two', 'Done']],
  ])('takes ?%s', async (query, titles) => {
    const user = await userWith(...two, { title: 'Done', completed: true })
    const { body } = await request<List>('GET', `/compat/tasks/api/todos?${query}`, user)
    expect(body.tasks.map(({ title }) => title)).toEqual(titles)
  })
})

test.each([
  ['/api/tasks'],
  ['/api/todos'],
  ['/api/v1/tasks'],
  ['/api/v1/todos'],
  ['/tasks'],
  ['/todos'],
  ['/v1/tasks'],
  ['/api/:user/tasks'],
  ['/api/users/:user/tasks'],
  ['/api/v1/users/:user/tasks'],
  ['/users/:user/todos'],
])('a task lives its life under %s, in every dialect', async (path) => {
  for (const prefix of dialects) {
    const user = await newUser()
    const list = prefix + path.replace(':user', user.id)
    const created = await request<Told>('POST', list, { ...user, json: { title: 'Buy milk' } })
    const one = `${list}/${created.body.id}`
    expect(created).toMatchObject({ status: 201, body: { title: 'Buy milk', is_completed: false } })
    expect(created.headers.get('location')).toBe(one)
    expect((await request<Told>('GET', one, user)).body).toEqual(created.body)
    expect((await request('GET', `${list}/`, user)).status).toBe(200)
    expect(
      (await request('PUT', one, { ...user, json: { title: 'Oat milk' } })).body,
    ).toMatchObject({
      title: 'Oat milk',
    })
    expect((await request('PATCH', `${one}/toggle`, user)).body).toMatchObject({
      completed: true,
      is_completed: true,
    })
    expect((await request('PATCH', `${one}/complete/`, user)).body).toMatchObject({
      completed: false,
      is_completed: false,
    })
    const json = { is_completed: true }
    expect((await request('PATCH', `${one}/toggle`, { ...user, json })).body).toMatchObject({
      completed: true,
    })
    expect(await rowsOf(user.id)).toMatchObject([{ title: 'Oat milk', completed: true }])
    const removed = await request('DELETE', one, user)
    expect(removed).toMatchObject({
      status: 200,
      body: { id: created.body.id, message: 'Task deleted' },
    })
    expect(removed.headers.get('content-type')).toBe('application/json')
    expect(await rowsOf(user.id)).toEqual([])
    expect((await request('GET', one, user)).status).toBe(404)
  }
})

describe('completed and is_completed', () => {
  const both = (completed: boolean, isCompleted: boolean, completedAt?: string | null) => ({
    completed,
    is_completed: isCompleted,
    ...(completedAt !== undefined && { completed_at: completedAt }),
  })

  test.each([
    ['is_completed alone', false, { is_completed: true }, true],
    ['completed alone', false, { completed: true }, true],
    ['both, which agree', false, both(true, true), true],
    ['both, and is_completed is named last', false, both(false, true), true],
    ['a whole task with completed changed', false, both(true, false, null), true],
    ['a whole task with is_completed changed', false, both(false, true, null), true],
    ['a whole done task with completed changed', true, both(false, true, '2026-01-01'), false],
    ['a whole done task with is_completed changed', true, both(true, false, '2026-01-01'), false],
    ['a whole task with nothing changed', true, both(true, true, '2026-01-01'), true],
    [
      'a whole task with status changed',
      false,
      { ...both(false, false, null), status: 'completed' },
      true,
    ],
    [
      'a whole task with all but status changed',
      false,
      { ...both(true, true, null), status: 'pending' },
      true,
    ],
    [
      'a whole done task with status changed',
      true,
      { ...both(true, true, '2026-01-01'), status: 'pending' },
      false,
    ],
  ])('%s', async (_, before, json, after) => {
    const { tasks, ...user } = await userWith({ title: 'x', completed: before })
    const put = async () =>
      request<Told>('PUT', `/compat/array/api/tasks/${tasks[0]!.id}`, { ...user, json })
    // Twice, as a form that is sent twice does.
    for (const { status, body } of [await put(), await put()])
      expect({ status, completed: body.completed, is_completed: body.is_completed }).toEqual({
        status: 200,
        completed: after,
        is_completed: after,
      })
  })

  /** What clients change of a task that they send back whole. */
  const spellings = ['completed', 'is_completed', 'status'] as const
  const subsets = Array.from({ length: 7 }, (_, index) =>
    spellings.filter((_spelling, place) => (index + 1) & (1 << place)),
  )
  test.each(subsets)(
    '%p %p %p of a whole task, whatever becomes of completed_at',
    async (...names) => {
      for (const before of [false, true])
        for (const completedAt of ['as it was', 'along', 'left out']) {
          const { tasks, ...user } = await userWith({ title: 'x', completed: before })
          const path = `/compat/array/tasks/${tasks[0]!.id}`
          const { completed_at: at, ...read } = (await request<Told>('GET', path, user)).body
          const now = {
            completed: !before,
            is_completed: !before,
            status: before ? 'pending' : 'completed',
          }
          const json = {
            ...read,
            ...Object.fromEntries(names.map((name) => [name, now[name]])),
            ...(completedAt === 'as it was' && { completed_at: at }),
            ...(completedAt === 'along' && {
              completed_at: before ? null : '2126-01-01T00:00:00Z',
            }),
          }
          const { body } = await request<Told>('PUT', path, { ...user, json })
          expect([completedAt, body.completed]).toEqual([completedAt, !before])
        }
    },
  )

  test('a title, after the task was completed and the client has changed its copy of it', async () => {
    const { tasks, ...user } = await userWith({ title: 'x' })
    const path = `/compat/array/tasks/${tasks[0]!.id}`
    const read = (await request<Told>('GET', path, user)).body
    await request('PATCH', `${path}/toggle`, user)
    const json = { ...read, completed: true, status: 'completed', title: 'y' }
    expect((await request<Told>('PUT', path, { ...user, json })).body).toMatchObject({
      title: 'y',
      completed: true,
    })
  })

  test('a value that is not a boolean is refused, whatever the other spelling has', async () => {
    const { tasks, ...user } = await userWith({ title: 'x' })
    const path = `/compat/array/tasks/${tasks[0]!.id}`
    const read = (await request<Told>('GET', path, user)).body
    for (const json of [
      { title: 'g', is_completed: true, completed: 'garbage' },
      { ...read, is_completed: 'banana' },
      { ...read, completed: 1 },
    ])
      for (const answer of [
        await request('POST', '/compat/array/tasks', { ...user, json }),
        await request('PUT', path, { ...user, json }),
      ])
        expect(answer).toMatchObject({ status: 422, body: { code: 'validation_failed' } })
  })

  test.each([
    ['completed', true],
    ['Completed', true],
    ['pending', false],
    ['in_progress', false],
  ])('a status that comes without either, %s', async (status, completed) => {
    const { tasks, ...user } = await userWith({ title: 'x', completed: !completed })
    const path = `/compat/array/api/tasks/${tasks[0]!.id}`
    const { body } = await request<Told>('PUT', path, { ...user, json: { status } })
    expect(body).toMatchObject({ completed, status: completed ? 'completed' : 'pending' })
    const kept = { status: 'pending', completed: true, title: 'y' }
    expect((await request<Told>('PUT', path, { ...user, json: kept })).body.completed).toBe(true)
    const unknown = { status: 'archived', title: 'z' }
    expect((await request<Told>('PUT', path, { ...user, json: unknown })).body).toMatchObject({
      title: 'z',
      completed: true,
    })
  })

  test('is_completed is read next to an unknown field with a number that is too large', async () => {
    const user = await newUser()
    const body = '{"title":"x","is_completed":true,"low":-1e999,"high":[1e999]}'
    const headers = { 'content-type': 'application/json' }
    const created = await request<Told>('POST', '/compat/items/tasks', { ...user, body, headers })
    expect(created).toMatchObject({ status: 201, body: { completed: true } })
  })

  test('a new task takes either', async () => {
    const user = await newUser()
    for (const json of [
      { title: 'x', is_completed: true },
      { title: 'x', completed: true },
    ])
      expect(
        (await request<Told>('POST', '/compat/items/tasks', { ...user, json })).body,
      ).toMatchObject({
        completed: true,
        is_completed: true,
      })
  })
})

describe('a date and time of a form', () => {
  const path = ({ id }: Told) => `/compat/array/tasks/${id}`
  const dueOf = ({ due_date, due_time, due_timezone }: TaskBody) =>
    [due_date, due_time, due_timezone] as unknown[]

  test('is read as it was sent, and lost by no edit', async () => {
    const user = await newUser()
    const json = { title: 'x', due_date: '2027-03-01T09:30' }
    const created = (await request<Told>('POST', '/compat/array/tasks', { ...user, json })).body
    expect(String(created.due_date)).toBe('2027-03-01T09:30:00')
    const [listed] = (await request<Told[]>('GET', '/compat/array/tasks', user)).body
    expect(listed).toEqual(created)
    const edited = { ...created, due_date: created.due_date!.slice(0, 16), title: 'y' }
    await request('PUT', path(created), { ...user, json: edited })
    const { body } = await request<TaskBody>('GET', `/api/tasks/${created.id}`, user)
    expect(dueOf(body)).toEqual(['2027-03-01', '09:30', null])
  })

  test.each([
    [{ due_time: '10:45' }, ['2027-03-01', '10:45', null]],
    [{ due_timezone: 'Europe/Paris' }, ['2027-03-01', '09:30', 'Europe/Paris']],
    [{ due_time: null }, ['2027-03-01', null, null]],
    [{ due_date: '2027-03-02T10:00' }, ['2027-03-02', '10:00', null]],
    [{ due_date: '2027-03-02' }, ['2027-03-02', '09:30', null]],
  ])('sent back whole with %j is what it was but for that', async (change, expected) => {
    const due = { due_date: '2027-03-01', due_time: '09:30' }
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    const read = (await request<Told>('GET', `/compat/array/tasks/${tasks[0]!.id}`, user)).body
    await request('PUT', path(read), { ...user, json: { ...read, ...change } })
    const { body } = await request<TaskBody>('GET', `/api/tasks/${read.id}`, user)
    expect(dueOf(body)).toEqual(expected)
  })

  test.each([
    [{ due_time: '12:34' }, ['2027-03-01', '12:34', 'Europe/Paris']],
    [{ due_timezone: 'Asia/Tokyo' }, ['2027-03-01', '09:30', 'Asia/Tokyo']],
    [{ due_time: '12:34', due_date: '2027-03-01T08:30' }, ['2027-03-01', '12:34', 'Europe/Paris']],
  ])('of a whole task with %j is the same if it is sent twice', async (change, expected) => {
    const due = { due_date: '2027-03-01', due_time: '09:30', due_timezone: 'Europe/Paris' }
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    const read = (await request<Told>('GET', `/compat/array/tasks/${tasks[0]!.id}`, user)).body
    for (let time = 0; time < 2; time += 1) {
      await request('PUT', path(read), { ...user, json: { ...read, ...change } })
      const { body } = await request<TaskBody>('GET', `/api/tasks/${read.id}`, user)
      expect(dueOf(body)).toEqual(expected)
    }
  })

  test.each([
    [{ due_date: '2027-01-06' }, '2027-01-06T11:45'],
    [{ due_date: '2027-01-06', due_time: '09:30' }, '2027-01-06T11:45:00'],
    [{ due_date: '2027-01-06', due_timezone: 'Europe/Paris' }, '2027-01-06T11:45'],
  ])('in an older copy of %j is stored, though the day is the same', async (due, form) => {
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    const read = (await request<Told>('GET', path(tasks[0] as Told), user)).body
    await request('PATCH', `${path(read)}/toggle`, user)
    const json = {
      ...read,
      due_date: form,
      completed: true,
      is_completed: true,
      status: 'completed',
    }
    for (let time = 0; time < 2; time += 1) {
      await request('PUT', path(read), { ...user, json })
      const { body } = await request<TaskBody>('GET', `/api/tasks/${read.id}`, user)
      expect(dueOf(body)).toEqual(['2027-01-06', '11:45', null])
    }
  })

  test.each([
    ['without a zone', { due_date: '2027-01-06', due_time: '09:30' }],
    ['with a zone', { due_date: '2027-01-06', due_time: '09:30', due_timezone: 'Europe/Paris' }],
    ['that comes again', { due_date: '2027-01-06', due_time: '09:30', recurrence: 'daily' }],
  ])('of a task %s can be cleared by an older copy', async (_, due) => {
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    const read = (await request<Told>('GET', path(tasks[0] as Told), user)).body
    const moved = { ...read, due_date: '2027-01-07T11:45' }
    await request('PUT', path(read), { ...user, json: moved })
    for (let time = 0; time < 2; time += 1) {
      const json = { ...moved, due_date: null }
      expect((await request('PUT', path(read), { ...user, json })).status).toBe(200)
      const { body } = await request<TaskBody>('GET', `/api/tasks/${read.id}`, user)
      expect(dueOf(body)).toEqual([null, null, null])
    }
  })

  test.each([
    { due_date: '2027-07-06', due_time: '04:30', due_timezone: 'UTC' },
    { due_date: '2027-07-06', due_time: '09:30', due_timezone: 'Europe/Paris' },
    { due_date: '2027-07-06', due_timezone: 'Europe/Paris' },
  ])('is no time in a zone that a client of forms has only read, of %j', async (due) => {
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    let copy = (await request<Told>('GET', path(tasks[0] as Told), user)).body
    for (const [form, expected] of [
      ['2027-07-08T10:00', ['2027-07-08', '10:00', null]],
      ['2027-07-08T11:00', ['2027-07-08', '11:00', null]],
      [null, [null, null, null]],
      ['2027-07-08T12:00', ['2027-07-08', '12:00', null]],
    ] as const) {
      copy = { ...copy, due_date: form }
      expect((await request('PUT', path(copy), { ...user, json: copy })).status).toBe(200)
      expect(dueOf(await stored(user, copy.id))).toEqual([...expected])
    }
  })

  test.each([{ recurrence: 'weekly' }, { due_time: '09:30' }, { due_timezone: 'UTC' }])(
    'is missing from the newest copy with %j, which is told and not dropped',
    async (chosen) => {
      const { tasks, ...user } = await userWith({ title: 'x' })
      const { body } = await request<Told>('GET', path(tasks[0] as Told), user)
      const answer = await request('PUT', path(body), { ...user, json: { ...body, ...chosen } })
      expect([answer.status, answer.body]).toMatchObject([422, { code: 'validation_failed' }])
    },
  )

  test('is cleared in a copy that becomes a new task', async () => {
    const due = { due_date: '2027-03-01', due_time: '09:30', due_timezone: 'UTC' }
    const { tasks, ...user } = await userWith({ title: 'x', ...due, recurrence: 'daily' })
    const { body } = await request<Told>('GET', path(tasks[0] as Told), user)
    const json = { ...body, due_date: null }
    const made = await request<Told>('POST', '/compat/array/tasks', { ...user, json })
    expect([made.status, made.body.recurrence]).toEqual([201, null])
    expect(dueOf(made.body as unknown as TaskBody)).toEqual([null, null, null])
  })

  const paris = { due_time: '09:30', due_timezone: 'Europe/Paris' }
  const nothing = { due_date: null, due_time: null, due_timezone: null }
  test.each([
    ['another instant', paris, { due_date: '2027-02-02T10:00:00.000Z' }],
    ['another day', paris, { due_date: '2027-02-02' }],
    ['a form’s date', paris, { due_date: '2027-02-02T10:00' }],
    [
      'another instant of a task without a zone',
      { due_time: '08:30' },
      { due_date: '2027-02-02T10:00:00Z' },
    ],
    [
      'another time of a task without a zone',
      { due_time: '08:30' },
      { due_date: '2027-03-01T10:00' },
    ],
    ['a zone for one', { due_time: '08:30' }, { due_timezone: 'Asia/Tokyo' }],
    ['a time for a day', {}, { due_date: '2027-02-02T10:00' }],
    ['an instant for a day', {}, { due_date: '2027-02-02T10:00:00.000Z' }],
    ['a time for a task without a date', nothing, { due_date: '2027-02-02T10:00' }],
    ['an instant for one', nothing, { due_date: '2027-02-02T10:00:00.000Z' }],
    ['no date', paris, { due_date: null }],
    ['no date for one that comes again', { ...paris, recurrence: 'weekly' }, { due_date: null }],
  ])('%s in a whole task does the same twice and three times', async (_, kept, change) => {
    const { tasks, ...user } = await userWith({ title: 'x', due_date: '2027-03-01', ...kept })
    const read = (await request<Told>('GET', path(tasks[0] as Told), user)).body
    const after: unknown[][] = []
    for (let time = 0; time < 3; time += 1) {
      const json = { ...read, ...change }
      expect((await request('PUT', path(read), { ...user, json })).status).toBe(200)
      after.push(dueOf((await request<TaskBody>('GET', `/api/tasks/${read.id}`, user)).body))
    }
    expect(after[0]).not.toEqual(dueOf(tasks[0]!))
    expect(after).toEqual([after[0]!, after[0]!, after[0]!])
  })

  test.each([
    [{ due_timezone: 'Europe/London' }, ['2027-01-06', '08:30', 'Europe/London']],
    [{ due_timezone: null }, ['2027-01-06', '08:30', null]],
  ])(
    'with %j is a time of day there, though it is the minute of the instant',
    async (zone, expected) => {
      const due = { due_date: '2027-01-06', due_time: '09:30', due_timezone: 'Europe/Paris' }
      const { tasks, ...user } = await userWith({ title: 'x', ...due })
      const json = { title: 'y', due_date: '2027-01-06T08:30', ...zone }
      for (let time = 0; time < 2; time += 1) {
        await request('PUT', path(tasks[0] as Told), { ...user, json })
        const { body } = await request<TaskBody>('GET', `/api/tasks/${tasks[0]!.id}`, user)
        expect(dueOf(body)).toEqual(expected)
      }
    },
  )

  test('is taken along with an instant that says the same, without a zone', async () => {
    const due = { due_date: '2027-01-06T08:30', due_at: '2027-01-06T08:30:00.000Z' }
    const asked = { ...(await newUser()), json: { title: 'n', ...due } }
    const made = await request<Told>('POST', '/compat/array/tasks', asked)
    expect([made.status, made.body.due_time, made.body.due_timezone]).toEqual([201, '08:30', null])
  })

  test('has the zone that comes with it, again and again, and none without', async () => {
    const user = await newUser()
    const zone = { due_timezone: 'Europe/Paris' }
    const json = { title: 'x', due_date: '2027-05-01T10:00', ...zone }
    const made = (await request<Told>('POST', '/compat/array/tasks', { ...user, json })).body
    for (const day of ['02', '03', '04']) {
      const change = { due_date: `2027-05-${day}T10:00`, ...zone }
      await request('PATCH', path(made), { ...user, json: change })
      const { body } = await request<TaskBody>('GET', `/api/tasks/${made.id}`, user)
      expect(dueOf(body)).toEqual([`2027-05-${day}`, '10:00', 'Europe/Paris'])
    }
    await request('PATCH', path(made), { ...user, json: { due_date: '2027-05-05T10:00' } })
    const { body } = await request<TaskBody>('GET', `/api/tasks/${made.id}`, user)
    expect(dueOf(body)).toEqual(['2027-05-05', '10:00', null])
  })

  test('cut out of the instant of a whole task that is copied stays in its zone', async () => {
    const due = { due_date: '2027-01-06', due_time: '00:30', due_timezone: 'Europe/Paris' }
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    const read = (await request<Told>('GET', `/compat/array/tasks/${tasks[0]!.id}`, user)).body
    const json = { ...read, due_date: read.due_date!.slice(0, 16) }
    const copied = await request<Told>('POST', '/compat/array/tasks', { ...user, json })
    const { body } = await request<TaskBody>('GET', `/api/tasks/${copied.body.id}`, user)
    expect(dueOf(body)).toEqual(Object.values(due))
  })

  test('that is the task’s own leaves it in its zone, and so does another with a zone', async () => {
    const due = { due_date: '2027-01-06', due_time: '09:30', due_timezone: 'Europe/Paris' }
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    const json = { title: 'y', due_date: '2027-01-06T09:30' }
    await request('PATCH', path(tasks[0] as Told), { ...user, json })
    const { body } = await request<TaskBody>('GET', `/api/tasks/${tasks[0]!.id}`, user)
    expect(dueOf(body)).toEqual(Object.values(due))
    const zoned = { title: 'z', due_date: '2027-01-06T09:30', due_timezone: 'Europe/Paris' }
    const made = (await request<Told>('POST', '/compat/array/tasks', { ...user, json: zoned })).body
    expect([made.due_time, made.due_timezone]).toEqual(['09:30', 'Europe/Paris'])
    for (const wrong of [{ due_time: '99:99' }, { due_timezone: 'No/Where' }, { due_time: 7 }]) {
      const asked = { ...user, json: { ...json, ...wrong } }
      expect((await request('POST', '/compat/array/tasks', asked)).status).toBe(422)
    }
  })

  test('that is cut out of an instant leaves the task in its zone', async () => {
    const due = { due_date: '2027-01-06', due_time: '00:30', due_timezone: 'Europe/Paris' }
    const { tasks, ...user } = await userWith({ title: 'x', ...due })
    const read = (await request<Told>('GET', `/compat/array/tasks/${tasks[0]!.id}`, user)).body
    const cut = read.due_date!.slice(0, 16)
    for (const json of [
      { title: 'y', due_date: cut },
      { ...read, title: 'z', due_date: cut },
    ]) {
      await request('PATCH', path(read), { ...user, json })
      const { body } = await request<TaskBody>('GET', `/api/tasks/${read.id}`, user)
      expect(dueOf(body)).toEqual(Object.values(due))
    }
  })

  test('of a whole task that is sent as a new one stays in its zone', async () => {
    const due = { due_date: '2027-01-06', due_time: '00:30', due_timezone: 'Europe/Paris' }
    const { tasks, ...user } = await userWith({ title: 'x', ...due, recurrence: 'weekly' })
    const read = (await request<Told>('GET', `/compat/array/tasks/${tasks[0]!.id}`, user)).body
    const copied = await request<Told>('POST', '/compat/array/tasks', { ...user, json: read })
    const { body } = await request<TaskBody>('GET', `/api/tasks/${copied.body.id}`, user)
    expect(dueOf(body)).toEqual(Object.values(due))
    // Sent back after another client has moved the task, it is what was read.
    const json = { due_date: '2027-01-07' }
    await request('PUT', `/api/tasks/${read.id}`, { ...user, json })
    await request('PUT', path(read), { ...user, json: { ...read, title: 'y' } })
    const after = await request<TaskBody>('GET', `/api/tasks/${read.id}`, user)
    expect(dueOf(after.body)).toEqual(Object.values(due))
  })
})

describe('a priority that nobody set', () => {
  test.each([
    ['none', { title: 'y', priority: 'medium' }, 'none'],
    ['none', { title: 'y', priority: 'high' }, 'high'],
    ['none', { title: 'y', priority: 'none' }, 'none'],
    ['none', { priority: 'medium' }, 'medium'], // alone, it was chosen
    ['none', { priority: 'medium', id: 1, user_id: 'x' }, 'medium'],
    ['high', { title: 'y', priority: 'medium' }, 'medium'],
    ['low', { title: 'y' }, 'low'],
    ['low', { title: 'y', priority: 'High' }, 'high'],
    ['none', { title: 'y', priority: 'Medium' }, 'none'],
  ])('is medium to read, and %s sent %j is %s', async (priority, json, after) => {
    for (const method of ['PUT', 'PATCH']) {
      const { tasks, ...user } = await userWith({ title: 'x', priority })
      const id = tasks[0]!.id
      const path = `/compat/array/api/tasks/${id}`
      const shown = (of: string) => (of === 'none' ? 'medium' : of)
      expect((await request<Told>('GET', path, user)).body.priority).toBe(shown(priority) as 'low')
      const { status, body } = await request<Told>(method, path, { ...user, json })
      expect({ status, priority: body.priority }).toEqual({
        status: 200,
        priority: shown(after) as 'low',
      })
      expect((await stored(user, id)).priority).toBe(after as 'none')
    }
  })

  test('is what a new task says', async () => {
    const user = await newUser()
    const json = { title: 'x', priority: 'medium' }
    const { body } = await request<Told>('POST', '/compat/array/api/tasks', { ...user, json })
    expect((await stored(user, body.id)).priority).toBe('medium')
  })

  test('of somebody else’s task is not told', async () => {
    const { tasks } = await userWith({ title: 'x' })
    const json = { title: 'y', priority: 'medium' }
    const path = `/compat/array/api/tasks/${tasks[0]!.id}`
    expect((await request('PUT', path, { ...(await newUser()), json })).status).toBe(403)
    const missing = '/compat/array/api/tasks/9007199254740991'
    expect((await request('PUT', missing, { ...(await newUser()), json })).status).toBe(404)
    expect((await request('PUT', `${path}x`, { ...(await newUser()), json })).status).toBe(422)
  })
})

describe('due_date', () => {
  const due = {
    title: 'x',
    due_date: '2026-03-01',
    due_time: '09:30',
    due_timezone: 'Europe/Paris',
  }
  const at = '2026-03-01T08:30:00.000Z'

  test('is the instant if there is one', async () => {
    const user = await userWith(due, { title: 'y', due_date: '2026-03-02' }, { title: 'z' })
    const { body } = await request<Told[]>('GET', '/compat/array/tasks', user)
    expect(body.map((task) => task.due_date)).toEqual([at, '2026-03-02', null])
    expect(body.map((task) => task.due_at)).toEqual([at, null, null])
    expect(body[0]).toMatchObject({ due_time: '09:30', due_timezone: 'Europe/Paris' })
  })

  test.each([
    ['a whole task with another title', { title: 'y' }, [at, '09:30', 'Europe/Paris']],
    ['a whole task without a date', { due_date: null }, [null, null, null]],
    [
      'a whole task at another instant',
      { due_date: '2026-04-01T10:00:00Z' },
      ['2026-04-01T10:00:00.000Z', '10:00', 'UTC'],
    ],
    [
      'a whole task at another time of day, as a form has it',
      { due_date: '2026-04-01T10:00' },
      ['2026-04-01T10:00:00', '10:00', null],
    ],
    [
      'a whole task at another time of day with seconds',
      { due_date: '2026-04-01T10:00:59' },
      ['2026-04-01T10:00:00', '10:00', null],
    ],
    [
      'a whole task on another day',
      { due_date: '2026-03-02' },
      ['2026-03-02T08:30:00.000Z', '09:30', 'Europe/Paris'],
    ],
  ])('%s', async (_, change, [date, time, zone]) => {
    const { tasks, ...user } = await userWith(due)
    const path = `/compat/tasks/api/tasks/${tasks[0]!.id}`
    const read = (await request<Told>('GET', path, user)).body
    const { status, body } = await request<Told>('PUT', path, {
      ...user,
      json: { ...read, ...change },
    })
    expect(status).toBe(200)
    expect([body.due_date, body.due_time, body.due_timezone] as unknown).toEqual([date, time, zone])
  })

  test.each([
    ['at a time', { due_time: '09:00', due_timezone: 'Europe/Paris' }, {}],
    ['on another day in UTC', { due_time: '00:30', due_timezone: 'Asia/Tokyo' }, {}],
    ['all day', {}, {}],
    ['with another title', { due_time: '09:00', due_timezone: 'Asia/Tokyo' }, { title: 'y' }],
  ])(
    'and rule of a whole task that is sent back %s go on as they were',
    async (_, time, change) => {
      for (const dialect of dialects) {
        const recurring = { title: 'x', due_date: '2027-01-31', recurrence: 'monthly', ...time }
        const { tasks, ...user } = await userWith(recurring)
        const first = `${dialect}/api/tasks/${tasks[0]!.id}`
        const done = { ...user, json: { completed: true } }
        const { next_task_id: next } = (await request<Told>('PUT', first, done)).body
        const path = `${dialect}/api/tasks/${next}`
        const read = (await request<Told>('GET', path, user)).body
        const sent = await request('PUT', path, { ...user, json: { ...read, ...change } })
        expect(sent.status).toBe(200)
        const after = (await request<Told>('PUT', path, done)).body.next_task_id!
        expect((await stored(user, after)).due_date).toBe('2027-03-31')
      }
    },
  )

  /** In Nuuk's zone the clocks go forward over this midnight, so that the instant is on the next day. */
  const overMidnight = { due_date: '2027-03-27', due_time: '23:30', due_timezone: 'America/Nuuk' }
  const atNight = { due_date: '2026-12-01', due_time: '00:30', due_timezone: 'Europe/Paris' }
  const asForm = ({ title, due_date: date }: Told) => ({ title, due_date: date })
  const otherwise = (change: (instant: string) => string) => (task: Told) => ({
    ...task,
    due_date: change(task.due_date!),
  })
  test.each([
    ['by a form', atNight, asForm, 'Europe/Paris'],
    [
      'without its instant',
      atNight,
      (task: Told) => ({ ...task, due_at: undefined }),
      'Europe/Paris',
    ],
    [
      'without milliseconds',
      atNight,
      otherwise((told) => told.replace('.000', '')),
      'Europe/Paris',
    ],
    [
      'with an offset',
      atNight,
      otherwise((told) => told.replace('.000Z', '+00:00')),
      'Europe/Paris',
    ],
    ['whole, over midnight', overMidnight, (task: Told) => task, 'America/Nuuk'],
    [
      'with another zone',
      atNight,
      (task: Told) => ({ ...task, due_timezone: 'America/Los_Angeles' }),
      'America/Los_Angeles',
    ],
  ])('sent back %s is what it was', async (_, kept, back, zone) => {
    for (const dialect of dialects) {
      const { tasks, ...user } = await userWith({ title: 'x', recurrence: 'weekly', ...kept })
      const id = tasks[0]!.id
      const path = `${dialect}/todos/${id}`
      const read = (await request<Told>('GET', path, user)).body
      expect((await request('PUT', path, { ...user, json: back(read) })).status).toBe(200)
      const expected = { ...kept, due_timezone: zone, occurrence_date: kept.due_date }
      expect(await stored(user, id)).toMatchObject(expected)
      const again = (await request<Told>('GET', path, user)).body
      const operations = [{ op: 'update', id, data: back(again) }]
      await request('POST', `${dialect}/todos/bulk`, { ...user, json: { operations } })
      expect(await stored(user, id)).toMatchObject({ ...expected, version: 3 })
    }
  })

  test('null is refused with what needs a date, as elsewhere', async () => {
    const user = await userWith({ title: 'x', due_date: '2030-05-17', due_time: '09:30' })
    const path = (prefix: string) => `${prefix}/api/tasks/${user.tasks[0]!.id}`
    for (const [method, where, json] of [
      ['POST', () => '/tasks', { title: 'x', due_date: null, recurrence: 'daily' }],
      ['PUT', path, { due_date: null, due_time: '99:99' }],
      ['PUT', path, { due_date: null, due_timezone: 'Nowhere/Land' }],
      ['PUT', path, { due_date: null, recurrence: 'FREQ=HOURLY' }],
      ['PUT', path, { due_date: null, due_time: '10:00' }],
    ] as const) {
      const prefix = '/compat/array'
      const there = where === path ? path(prefix) : `${prefix}/api/tasks`
      const here = where === path ? path('') : '/api/tasks'
      const told = await request<{ errors: unknown }>(method, there, { ...user, json })
      const plain = await request<{ errors: unknown }>(method, here, { ...user, json })
      expect([told.status, told.body.errors]).toEqual([422, plain.body.errors])
    }
  })

  test('cleared in a whole task that is sent back ends its rule', async () => {
    const { tasks, ...user } = await userWith({ ...due, recurrence: 'daily' })
    const path = `/compat/array/api/tasks/${tasks[0]!.id}`
    const read = (await request<Told>('GET', path, user)).body
    const json = { ...read, due_date: null }
    const { status, body } = await request<Told>('PUT', path, { ...user, json })
    expect([status, body.due_date, body.recurrence]).toEqual([200, null, null])
  })

  test('an instant sent by itself comes back', async () => {
    const { tasks, ...user } = await userWith({ title: 'x' })
    const path = `/compat/tasks/api/tasks/${tasks[0]!.id}`
    await request('PUT', path, { ...user, json: { due_date: at } })
    expect(
      (await request<Told>('PUT', path, { ...user, json: { title: 'y', due_date: at } })).body
        .due_date,
    ).toBe(at)
  })
})

test('a text that looks like a field is left as it is', async () => {
  const title = '"completed":true,"priority":"none","due_date":"2026-01-01"},{"id":7,\\'
  const user = await userWith({
    title,
    description: title,
    tags: ['completed', '"priority":"none"'],
  })
  const { body } = await request<List>('GET', '/compat/tasks/tasks?limit=5', user)
  expect(body).toMatchObject({ count: 1, tasks: [{ title, description: title, completed: false }] })
})

describe('parts of a list', () => {
  const all = Array.from({ length: 7 }, (_, number) => ({ title: String(number) }))
  let user: { token: string }
  beforeAll(async () => {
    user = await userWith(...all)
  })

  test.each([
    ['offset=2&limit=3', '234', 2, 3],
    ['skip=2&limit=3', '234', 2, 3],
    ['page=2&limit=3', '345', 3, 3],
    ['page=1&limit=3', '012', 0, 3],
    ['page=3&limit=3', '6', 6, 3],
    ['page=4&limit=3', '', 9, 3],
    ['limit=2', '01', 0, 2],
    ['offset=5', '56', 5, 100],
    ['skip=0', '0123456', 0, 100],
    ['page=1', '0123456', 0, 100],
    ['offset=600&limit=10', '', 600, 10],
    ['offset=5&limit=500', '56', 5, 500],
    ['offset=&skip=1&limit=', '123456', 1, 100],
    ['offset=1&limit=2&sort=-created', '54', 1, 2],
  ])('?%s', async (query, titles, offset, limit) => {
    const { status, body } = await request<Items>('GET', `/compat/items/api/tasks?${query}`, user)
    expect(status).toBe(200)
    expect({ ...body, items: body.items.map(({ title }) => title).join('') }).toEqual({
      items: titles,
      total: 7,
      limit,
      offset,
    } as never)
    const bare = await request<Told[]>('GET', `/compat/array/api/tasks?${query}`, user)
    expect(bare.body.map(({ title }) => title).join('')).toBe(titles)
    const counted = await request<List>('GET', `/compat/tasks/api/tasks?${query}`, user)
    expect(counted.body).toMatchObject({ total: 7, count: titles.length })
  })

  test.each(['page=1&limit=3&status=all', 'limit=3', 'skip=0&limit=2'])(
    'are linked from ?%s to the last',
    async (query) => {
      let path: string | undefined = `/compat/array/api/v1/todos?${query}`
      let seen = ''
      while (path) {
        const { body, headers }: Awaited<ReturnType<typeof request<Told[]>>> = await request<
          Told[]
        >('GET', path, user)
        seen += body.map(({ title }) => title).join('')
        path = /^<(\/compat\/array\/api\/v1\/todos\?.+)>; rel="next"$/.exec(
          headers.get('link') ?? '',
        )?.[1]
      }
      expect(seen).toBe('0123456')
    },
  )

  test.each([
    ['offset=-1', 'offset', 'must be a whole number from 0 to 1000000000'],
    ['offset=1.5', 'offset', 'must be a whole number from 0 to 1000000000'],
    ['skip=abc', 'skip', 'must be a whole number from 0 to 1000000000'],
    ['page=0', 'page', 'must be a whole number from 1 to 1000000000'],
    ['page=99999999999999999999', 'page', 'must be a whole number from 1 to 1000000000'],
    ['offset=0&limit=501', 'limit', 'must be a whole number from 1 to 500'],
    ['limit=0', 'limit', 'must be a whole number from 1 to 500'],
  ])('?%s is refused by name', async (query, field, detail) => {
    const path = `/compat/tasks/api/tasks?${query}`
    const { status, body, headers } = await request<object>('GET', path, user)
    expect(status).toBe(422)
    expect(body).toMatchObject({
      code: 'validation_failed',
      request_id: headers.get('x-request-id'),
      errors: [{ field, detail }],
    })
    expect((await request('GET', path)).status).toBe(401)
  })
})

describe('what holds everywhere holds here too', () => {
  test.each([
    ['no token', 'GET', '/api/tasks', {}, 401, 'token_missing'],
    ['no token and a bad body', 'POST', '/api/tasks', { body: '{' }, 401, 'token_missing'],
    ['another user in the path', 'GET', '/api/users/other/tasks', { own: true }, 403, 'wrong_user'],
    ['a missing task', 'GET', '/tasks/9007199254740991', { own: true }, 404, 'task_not_found'],
    ['an id that is none', 'PATCH', '/todos/01/toggle', { own: true }, 422, 'validation_failed'],
    ['an unknown path', 'GET', '/nothing', { own: true }, 404, 'route_not_found'],
    ['a wrong method', 'POST', '/tasks/1/toggle', { own: true }, 405, 'method_not_allowed'],
    ['no JSON', 'POST', '/tasks', { own: true, body: '{"is_completed":' }, 422, 'malformed_json'],
    ['a list', 'POST', '/tasks', { own: true, body: '["is_completed"]' }, 422, 'validation_failed'],
    [
      'no title',
      'POST',
      '/tasks',
      { own: true, body: '{"is_completed":true}' },
      422,
      'validation_failed',
    ],
    [
      'no boolean',
      'POST',
      '/tasks',
      { own: true, body: '{"title":"x","completed":"yes","is_completed":"yes"}' },
      422,
      'validation_failed',
    ],
    [
      'a number beyond all',
      'POST',
      '/tasks',
      { own: true, body: '{"title":"x","due_time":1e999,"priority":"high"}' },
      422,
      'validation_failed',
    ],
    [
      'another type',
      'POST',
      '/tasks',
      { own: true, body: '{}', type: 'text/plain' },
      415,
      'unsupported_media_type',
    ],
    [
      'too much',
      'POST',
      '/tasks',
      { own: true, body: `{"is_completed":"${'x'.repeat(70_000)}"}` },
      413,
      'body_too_large',
    ],
    [
      'a deep body',
      'POST',
      '/tasks',
      { own: true, body: `{"is_completed":${'['.repeat(60_000)}` },
      422,
      undefined,
    ],
  ] as const)('%s', async (_, method, path, sent: Sent, status, code) => {
    const user = sent.own ? await newUser() : {}
    const plain = path
      .replace(/^\/(tasks|todos)/, '/api/tasks')
      .replace('/toggle', '/complete')
      .replace('/users/', '/')
    const ask = async (at: string) =>
      request<{ detail: string }>(method, at, {
        ...user,
        ...(sent.body !== undefined && { body: sent.body }),
        headers: {
          'content-type': sent.type ?? 'application/json',
          'x-request-id': 'mine',
          origin: 'http://localhost:3000',
        },
      })
    const [here, elsewhere] = [await ask(`/compat/tasks${path}`), await ask(plain)]
    expect(here.status).toBe(status)
    if (code !== undefined) expect(here.body).toMatchObject({ code })
    expect(here.body).toEqual(elsewhere.body)
    const headersOf = ({ headers }: typeof here) =>
      Object.fromEntries([...headers].filter(([name]) => name !== 'date'))
    expect(headersOf(here)).toEqual(headersOf(elsewhere))
  })
  type Sent = { own?: boolean; body?: string; type?: string }

  test('an id that is none is refused, too, if the body asks what the task has', async () => {
    const { tasks, ...user } = await userWith({ title: 'x' })
    const json = { due_date: null }
    const bad = ['9223372036854775808', '99999999999999999999', '0']
    const operation = (id: number) => ({ op: 'update', id, data: json })
    for (const answer of [
      ...bad.map(async (id) => request('PUT', `/compat/tasks/todos/${id}`, { ...user, json })),
      ...[1.5, 1e19, -1].map(async (id) =>
        request('POST', '/compat/tasks/todos/bulk', {
          ...user,
          json: { operations: [operation(tasks[0]!.id), operation(id)] },
        }),
      ),
    ])
      expect(await answer).toMatchObject({ status: 422, body: { code: 'validation_failed' } })
  })

  test('a body whose length is not told is read and bounded alike', async () => {
    const user = await newUser()
    const chunked = (text: string) => new Blob([text]).stream()
    const headers = { 'content-type': 'application/json' }
    const good = chunked('{"title":"x","is_completed":true}')
    const created = await request<Told>('POST', '/compat/array/tasks', {
      ...user,
      headers,
      body: good,
    })
    expect(created).toMatchObject({ status: 201, body: { completed: true } })
    const large = chunked(`{"title":"x","is_completed":true,"x":"${'x'.repeat(100_000)}"}`)
    expect(
      (await request('POST', '/compat/array/tasks', { ...user, headers, body: large })).status,
    ).toBe(413)
    expect(await rowsOf(user.id)).toHaveLength(1)
  })

  test.each(['a$&b', "$'", 'x|y/ü%', 'compat'])(
    'links lead to where they should, for the user %s',
    async (id) => {
      const user = { token: await tokenFor(id) }
      const named = encodeURIComponent(id).replaceAll('%24', '$').replaceAll('%26', '&')
      const list = `/compat/tasks/api/users/${named}/todos`
      const created = await request<Told>('POST', list, { ...user, json: { title: 'x' } })
      await request('POST', list, { ...user, json: { title: 'y' } })
      const location = created.headers.get('location')!
      expect(location).toBe(`${list}/${created.body.id}`)
      expect((await request('GET', location, user)).status).toBe(200)
      const first = await request('GET', `${list}?limit=1`, user)
      const [, next] = /^<(.+)>; rel="next"$/.exec(first.headers.get('link')!) ?? []
      expect((await request<List>('GET', next!, user)).body).toMatchObject({ count: 1 })
    },
  )

  test('a server may be called compat', async () => {
    const user = { ...(await newUser()), headers: { host: 'compat' } }
    expect((await request('GET', '/compat/tasks/tasks', user)).body).toMatchObject({ total: 0 })
    expect((await request('GET', '/api/tasks', user)).body).toEqual([])
  })

  test('versions: another one is 412, whose current speaks the dialect', async () => {
    const { tasks, ...user } = await userWith({ title: 'x', completed: true })
    const path = `/compat/items/api/todos/${tasks[0]!.id}`
    const put = async (version: string) =>
      request<{ current: Told }>('PUT', path, {
        ...user,
        json: { title: 'y' },
        headers: { 'if-match': version },
      })
    const { status, body } = await put('"9"')
    expect(status).toBe(412)
    expect(body.current).toMatchObject({ title: 'x', is_completed: true, priority: 'medium' })
    expect((await put('"1"')).headers.get('etag')).toBe('"2"')
  })

  test('a request under its key is answered again, in whatever dialect', async () => {
    const user = await newUser()
    const create = async (prefix: string, json: object) =>
      request<Told>('POST', `${prefix}/tasks`, {
        ...user,
        json,
        headers: { 'idempotency-key': 'k' },
      })
    const first = await create('/compat/tasks', { title: 'x', is_completed: true })
    const second = await create('/compat/array', { title: 'x', completed: true })
    expect(second.status).toBe(201)
    expect(second.body).toEqual(first.body)
    expect(second.headers.get('idempotent-replayed')).toBe('true')
    expect((await create('/compat/tasks', { title: 'y' })).status).toBe(422)
    const remove = async () =>
      request('DELETE', `/compat/tasks/tasks/${first.body.id}`, {
        ...user,
        headers: { 'idempotency-key': 'd' },
      })
    expect([await remove(), await remove()]).toMatchObject([
      { status: 200, body: { id: first.body.id } },
      { status: 200, body: { id: first.body.id } },
    ])
  })

  test.each([
    [
      'PUT',
      (id: number) => `/api/tasks/${id}`,
      (id: number) => ({ id, title: 'y', priority: 'medium' }),
    ],
    [
      'POST',
      () => '/api/tasks/bulk',
      (id: number) => ({
        operations: [{ op: 'update', id, data: { title: 'y', priority: 'medium' } }],
      }),
    ],
  ])(
    '%s is the same request whatever has become of its task since',
    async (method, pathOf, bodyOf) => {
      const { tasks, ...user } = await userWith({ title: 'x' })
      const id = tasks[0]!.id
      const send = async (prefix = '/compat/array') =>
        request<Told>(method, `${prefix}${pathOf(id)}`, {
          ...user,
          json: bodyOf(id),
          headers: { 'idempotency-key': 'k' },
        })
      const first = await send()
      expect(first.status).toBe(200)
      expect((await stored(user, id)).priority).toBe('none')
      const expectRepeat = async () => {
        const again = await send('/compat/tasks')
        expect([again.status, again.body]).toEqual([200, first.body])
        expect(again.headers.get('idempotent-replayed')).toBe('true')
      }
      await expectRepeat()
      await request('PUT', `/api/tasks/${id}`, { ...user, json: { priority: 'high' } })
      await expectRepeat()
      await request('DELETE', `/api/tasks/${id}`, user)
      await expectRepeat()
      // Another order of its fields, or an unknown field, does not make it another request.
      const turned = JSON.stringify(bodyOf(id)).replace(
        '"title":"y","priority":"medium"',
        '"priority":"medium","now":1,"title":"y"',
      )
      const likewise = { ...user, json: JSON.parse(turned), headers: { 'idempotency-key': 'k' } }
      const replay = await request(method, `/compat/array${pathOf(id)}`, likewise)
      expect([replay.status, replay.body]).toEqual([200, first.body])
      const json = JSON.parse(JSON.stringify(bodyOf(id)).replace('"y"', '"z"'))
      const other = { ...user, json, headers: { 'idempotency-key': 'k' } }
      const { status, body } = await request(method, `/compat/array${pathOf(id)}`, other)
      expect({ status, body }).toMatchObject({
        status: 422,
        body: { code: 'idempotency_key_reused' },
      })
    },
  )

  test('HEAD and OPTIONS', async () => {
    const user = await userWith({ title: 'x' })
    const get = await request('GET', '/compat/tasks/api/todos', user)
    const head = await request('HEAD', '/compat/tasks/api/todos', user)
    expect(head).toMatchObject({ status: 200, text: '' })
    expect(head.headers.get('etag')).toBe(get.headers.get('etag'))
    // HEAD makes no body, so its length is unknown. 0 would be a false length.
    expect(head.headers.get('content-length')).toBeNull()
    expect(head.headers.get('content-type')).toBe('application/json')
    const known = { 'if-none-match': get.headers.get('etag')! }
    const unchanged = await request('HEAD', '/compat/tasks/api/todos', { ...user, headers: known })
    expect(unchanged).toMatchObject({ status: 304, text: '' })
    await request('POST', '/api/tasks', { ...user, json: { title: 'y' } })
    const part = '/compat/items/api/tasks?limit=1&offset=0&is_completed=false'
    const link = (await request('GET', part, user)).headers.get('link')!
    expect(link).toContain('offset=1')
    expect((await request('HEAD', part, user)).headers.get('link')).toBe(link)
    const preflight = await request('OPTIONS', '/compat/tasks/api/todos/1/toggle', {
      headers: { origin: 'http://localhost:3000', 'access-control-request-method': 'PATCH' },
    })
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-origin')).toBe('http://localhost:3000')
  })

  test('a request counts once, against its own address and user, and has one line in the log', async () => {
    const counted = startApi({
      settings: {
        RATE_LIMIT_PER_USER: '10',
        RATE_LIMIT_PER_ADDRESS: '10',
        TRUSTED_PROXIES: '127.0.0.1',
      },
    })
    const user = await userWith({ title: 'x' })
    const { id } = (await request<TaskBody[]>('GET', '/api/tasks', user)).body[0]!
    const ask = async (path: string, address: string) =>
      counted.request('PUT', path, {
        ...user,
        json: { title: 'x', priority: 'medium' },
        headers: { 'x-forwarded-for': address },
      })
    const path = `/compat/tasks/api/todos/${id}`
    const remaining = /"address";r=(\d+).*"user";r=(\d+)/
    const [, address, perUser] = remaining.exec(
      (await ask(path, '192.0.2.1')).headers.get('ratelimit')!,
    )!
    expect([address, perUser]).toEqual(['9', '9'])
    const [, other, again] = remaining.exec(
      (await ask(path, '192.0.2.2')).headers.get('ratelimit')!,
    )!
    expect([other, again]).toEqual(['9', '8'])
    await eventually('both are logged', async () => counted.lines.length === 2)
    expect(counted.lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { method: 'PUT', route: '/api/tasks/:id', status: 200 },
      { method: 'PUT', route: '/api/tasks/:id', status: 200 },
    ])
    await counted.stop()
  })

  test('probes, keys and documentation are as without it', async () => {
    expect((await request('GET', '/compat/tasks/health')).body).toMatchObject({ status: 'ok' })
    const [here, there] = [
      await request('GET', '/compat/tasks/docs/json'),
      await request('GET', '/docs/json'),
    ]
    expect(here.text).toBe(there.text)
  })

  test('an unknown dialect, or one within another, is not found', async () => {
    const user = await newUser()
    for (const path of [
      '/compat/other/api/tasks',
      '/compat/tasks',
      '/compat/tasks/compat/array/tasks',
      '/x/compat/tasks/tasks',
    ])
      expect((await request('GET', path, user)).status).toBe(404)
  })
})

describe('without the prefix', () => {
  test.each(['/api/todos', '/api/todos/1', '/tasks', '/api/users/x/tasks', '/api/tasks/1/toggle'])(
    '%s is 404, which names the prefixes',
    async (path) => {
      const { status, body } = await request('PATCH', path, await newUser())
      expect(status).toBe(404)
      expect(body).toMatchObject({
        code: 'route_not_found',
        detail: expect.stringContaining('/compat/array, /compat/tasks or /compat/items'),
      })
    },
  )

  test.each(['/api/nothing', '/nothing/1', '/api/tasks/1/nothing'])('%s is not', async (path) => {
    const { body } = await request<{ detail: string }>('GET', path, await newUser())
    expect(body.detail).toBe('There is nothing at this path; the documentation lists every route')
  })

  test.each(['/api/v1/tasks', '/api/api/tasks'])('%s says what is read as a user', async (path) => {
    const { status, body } = await request('GET', path, await newUser())
    expect(status).toBe(403)
    expect(body).toMatchObject({
      code: 'wrong_user',
      detail: expect.stringContaining('between /api/ and /tasks is read as the id of a user'),
    })
  })
})

test('many large bulks at once are refused no sooner than elsewhere', async () => {
  const { tasks, ...user } = await userWith(...Array.from({ length: 100 }, () => ({ title: 'x' })))
  const operations = tasks.map(({ id }) => ({
    op: 'update',
    id,
    data: { title: 'y', priority: 'medium' },
  }))
  const answers = await Promise.all(
    Array.from({ length: 8 }, async () =>
      request('POST', '/compat/array/todos/bulk', { ...user, json: { operations } }),
    ),
  )
  expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 200))
  expect((await stored(user, tasks[0]!.id)).priority).toBe('none')
})

test('an id whose digits are encoded is answered as JSON', async () => {
  const { tasks, ...user } = await userWith({ title: 'x' })
  const id = tasks[0]!.id
  const encoded = String(id).replace(/^\d/, (digit) => `%3${digit}`)
  const { status, body } = await request('DELETE', `/compat/array/api/tasks/${encoded}`, user)
  expect({ status, body }).toEqual({ status: 200, body: { id, message: 'Task deleted' } })
})

describe('a bulk request', () => {
  const path = '/compat/tasks/api/todos/bulk'

  test('takes each operation’s data, and answers each result, in the dialect', async () => {
    const { tasks, ...user } = await userWith({ title: 'a' }, { title: 'b', completed: true })
    const [first, second] = tasks
    const operations = [
      { op: 'create', data: { title: 'c', is_completed: true, due_date: '2030-01-02T09:30:00Z' } },
      { op: 'update', id: first!.id, data: { title: 'A', is_completed: true, priority: 'medium' } },
      { op: 'complete', id: second!.id, data: { is_completed: false } },
    ]
    const { status, body } = await request('POST', path, { ...user, json: { operations } })
    expect(status).toBe(200)
    const told = { is_completed: true, completed: true, priority: 'medium' }
    expect(body).toMatchObject({
      results: [
        { status: 201, task: { ...told, title: 'c', due_date: '2030-01-02T09:30:00.000Z' } },
        { status: 200, task: { ...told, title: 'A' } },
        { status: 200, task: { ...told, is_completed: false, completed: false } },
      ],
    })
    // `medium` came back with other fields, as it had been sent to the client: nobody chose it.
    expect(await stored(user, first!.id)).toMatchObject({ completed: true, priority: 'none' })
    expect(await stored(user, second!.id)).toMatchObject({ completed: false })
  })

  test('that is refused shows the current tasks in the dialect', async () => {
    const { tasks, ...user } = await userWith({ title: 'a', completed: true })
    const { id } = tasks[0]!
    const operations = [{ op: 'update', id, if_version: 9, data: { is_completed: false } }]
    const current = { id, is_completed: true, priority: 'medium' }
    const refused = [{ index: 0, status: 412, code: 'version_conflict', current }]
    for (const [atomic, status] of [
      [true, 409],
      [false, 200],
    ] as const) {
      const answer = await request('POST', path, { ...user, json: { atomic, operations } })
      expect(answer.status).toBe(status)
      expect(answer.body).toMatchObject({ results: refused })
    }
    expect(await stored(user, id)).toMatchObject({ completed: true, version: 1 })
  })

  test('may be as large as without the prefix, whether its length is told or not', async () => {
    const user = await newUser()
    const data = { title: 'x', description: 'd'.repeat(900), is_completed: true }
    const body = JSON.stringify({
      operations: Array.from({ length: 100 }, () => ({ op: 'create', data })),
    })
    for (const sent of [body, new Blob([body]).stream()]) {
      const answer = await fetch(`${api.origin}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${user.token}`, 'content-type': 'application/json' },
        body: sent,
      })
      expect(answer.status).toBe(200)
    }
    const { body: list } = await request<List>('GET', '/compat/tasks/tasks?completed=true', user)
    expect(list.total).toBe(200)
  })

  test.each([
    ['no operations', { operations: 'is_completed' }],
    ['operations that are none', { operations: [null, 1, [], { op: 'create', data: null }] }],
    ['data that is none', { operations: [{ op: 'create', data: ['is_completed'] }] }],
    ['a wrong value', { operations: [{ op: 'create', data: { title: 'x', is_completed: 'no' } }] }],
  ])('with %s is 422', async (_, json) => {
    const { status } = await request('POST', path, { ...(await newUser()), json })
    expect(status).toBe(422)
  })
})

test('the changes since a token speak the dialect', async () => {
  const user = await userWith({ title: 'x', completed: true })
  const { body } = await request<{ items: Told[] }>('GET', '/compat/tasks/api/todos/changes', user)
  expect(body.items).toMatchObject([{ is_completed: true, priority: 'medium' }])
})

test('events speak the dialect, one by one, and end with their reader', async () => {
  const user = await newUser()
  const stream = await openEvents(`${api.origin}/compat/tasks/api/todos/events`, {
    authorization: `Bearer ${user.token}`,
  })
  const create = async (title: string) =>
    (await request<TaskBody>('POST', '/api/tasks', { ...user, json: { title, completed: true } }))
      .body
  for (const title of ['eins', 'zwei', 'drei “☃”']) {
    const { id } = await create(title)
    const event = await eventually(`${title} is told`, async () =>
      stream.events.find(({ data }) => (data as Told).id === id),
    )
    expect(event).toMatchObject({
      event: 'task.created',
      data: { title, is_completed: true, priority: 'medium' },
    })
  }
  stream.close()
  expect((await request('HEAD', '/compat/tasks/api/todos/events', user)).status).toBe(200)
})

test('a stream under the prefix ends with the token, and frees its place when its reader goes', async () => {
  const bounded = startApi({ settings: { MAX_STREAMS_PER_USER: '1' } })
  const user = await newUser()
  const open = async () =>
    openEvents(`${bounded.origin}/compat/tasks/tasks/events`, {
      authorization: `Bearer ${user.token}`,
    })
  const first = await open()
  const second = await open()
  await first.ended
  second.close()
  const short = await tokenFor(user.id, { exp: Math.floor(Date.now() / 1000) + 1 })
  const third = await openEvents(`${bounded.origin}/compat/tasks/tasks/events`, {
    authorization: `Bearer ${short}`,
  })
  await third.ended
  await bounded.stop()
})
