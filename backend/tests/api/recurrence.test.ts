import { afterAll, describe, expect, test } from 'bun:test'
import { createSetStatement, type Outcome } from '../../tasks/writes/set.ts'
import type { Write } from '../../tasks/writes/operation.ts'
import {
  database,
  newUser,
  rowsOf,
  startApi,
  type RequestOptions,
  type TaskBody,
} from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { bearer } from '../support/probe.ts'

const api = startApi()
const short = startApi({ settings: { MAX_TASKS_PER_USER: '3' } })
afterAll(async () => {
  await api.stop()
  await short.stop()
})

type User = Awaited<ReturnType<typeof newUser>>
type Refused = { code: string; errors: { field: string; detail: string }[] }

async function send<Body = TaskBody>(
  { token }: User,
  method: string,
  path: string,
  options: RequestOptions = {},
  server = api,
) {
  return server.request<Body>(method, `/api/tasks${path}`, { token, ...options })
}
async function create(user: User, fields: object): Promise<TaskBody> {
  return (await send(user, 'POST', '', { json: { title: 'Water the plants', ...fields } })).body
}
async function read(user: User, id: number | null): Promise<TaskBody> {
  return (await send(user, 'GET', `/${id}`)).body
}
/** Completes a task, and gives the one that comes next. */
async function complete(user: User, { id }: TaskBody): Promise<TaskBody> {
  const { body } = await send(user, 'PATCH', `/${id}/complete`, { json: { completed: true } })
  return read(user, body.next_task_id)
}
/** The due dates of a task and of those that follow, each completed. */
async function chain(user: User, fields: object, length: number): Promise<(string | null)[]> {
  let task = await create(user, fields)
  const dates = [task.due_date]
  while (dates.length < length) dates.push((task = await complete(user, task)).due_date)
  return dates
}

const dayFrom = (date: string, days: number) =>
  Temporal.PlainDate.from(date).add({ days }).toString()
const todayIn = (zone: string) => Temporal.Now.plainDateISO(zone).toString()

/** Runs a test that depends on the date again if the date changed while it ran. */
async function onOneDay(zone: string, act: (today: string) => Promise<void>): Promise<void> {
  const today = todayIn(zone)
  try {
    await act(today)
  } catch (error) {
    if (todayIn(zone) === today) throw error
    await act(todayIn(zone))
  }
}

describe('a rule', () => {
  test('that is sent back with no date is refused, and the task stays as it was', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    for (const fields of [{}, { completed: true }]) {
      const json = { ...task, ...fields, due_date: null }
      const { status, body } = await send<Refused>(user, 'PUT', `/${task.id}`, { json })
      expect([status, body.errors]).toEqual([
        422,
        [{ field: 'recurrence', detail: 'needs a due_date' }],
      ])
    }
    expect(await read(user, task.id)).toEqual(task)
  })

  test('is a field of the task, answered in one spelling', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'rrule:weekly' })
    expect(task).toMatchObject({
      recurrence: 'FREQ=WEEKLY',
      recurrence_from: 'due',
      series_id: task.id,
      occurrence_date: '2030-05-17',
      next_task_id: null,
    })
    expect(await read(user, task.id)).toEqual(task)
  })

  test('may be spelled as other front ends do, on every write', async () => {
    const user = await newUser()
    const { id } = await create(user, { due_date: '2030-05-17', recurrence_rule: 'daily' })
    const spell = async (json: object) =>
      (await send(user, 'PUT', `/${id}`, { json })).body.recurrence
    expect((await read(user, id)).recurrence).toBe('FREQ=DAILY')
    expect(await spell({ recurrence_pattern: 'Weekly' })).toBe('FREQ=WEEKLY')
    // No answer has the other spellings: whoever sends one means it, and sends the rest back as it was read.
    expect(await spell({ recurrence: 'monthly', recurrence_rule: 'daily' })).toBe('FREQ=DAILY')
    expect(await spell({ ...(await read(user, id)), recurrence_pattern: 'monthly' })).toBe(
      'FREQ=MONTHLY',
    )
    expect(await spell({ ...(await read(user, id)), recurrence_rule: null })).toBeNull()
    const operations = [{ op: 'update', id, data: { recurrence_pattern: 'YEARLY' } }]
    await send(user, 'POST', '/bulk', { json: { operations } })
    expect((await read(user, id)).recurrence).toBe('FREQ=YEARLY')
  })

  test.each(['recurrence', 'recurrence_rule', 'recurrence_pattern'])(
    'sent as %s is refused under one name, whatever is wrong with it',
    async (spelling) => {
      const user = await newUser()
      const plain = await create(user, {})
      const dated = await create(user, { due_date: '2030-05-17' })
      for (const [{ id }, rule] of [
        [plain, 'sometimes'],
        [plain, 'daily'],
        [dated, 'FREQ=DAILY;UNTIL=20300516'],
      ] as const) {
        const json = { [spelling]: rule }
        const { status, body } = await send<Refused>(user, 'PUT', `/${id}`, { json })
        expect([status, body.errors]).toMatchObject([422, [{ field: 'recurrence' }]])
      }
    },
  )

  test('does not need a zone that PostgreSQL knows while there is no time', async () => {
    const user = await newUser()
    const task = await create(user, {
      due_date: '2030-05-17',
      due_timezone: 'US/Pacific-New',
      recurrence: 'daily',
    })
    expect((await complete(user, task)).due_date).toBe('2030-05-18')
    const next = (await read(user, task.id)).next_task_id
    expect((await send(user, 'POST', `/${next}/skip`)).body.due_date).toBe('2030-05-19')
  })

  const refused: [string, unknown][] = [
    ['recurrence', 'FREQ=DAILY;INTERVAL=99999999999'],
    ['recurrence', 'FREQ=DAILY;INTERVAL=1e3'],
    ['recurrence', 'FREQ=DAILY;BYDAY='.padEnd(60_000, 'MO,')],
    ['recurrence', 'FREQ=DAILY=x'],
    ['recurrence', 'DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY'],
    ['recurrence', 'FREQ=DAILY;UNTIL=20260230'],
    ['recurrence', 'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30'],
    ['recurrence', 'FREQ=DAILY;UNTIL=20300516'],
    ['recurrence', 'FREQ=DAILY;INTERVAL=7;BYDAY=MO'],
    ['recurrence', 'FREQ=MONTHLY;INTERVAL=12;BYMONTH=2'],
    ['recurrence', 'FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYDAY=5MO'],
    ['recurrence', ''],
    ['recurrence', 7],
    ['recurrence', ['FREQ=DAILY']],
    ['recurrence_rule', 'sometimes'],
    ['recurrence_pattern', {}],
    ['recurrence_from', 'now'],
  ]
  test.each(refused)(
    '%s %#: refused, on a new task, an old one and in bulk',
    async (field, value) => {
      const user = await newUser()
      const { id } = await create(user, { due_date: '2030-05-17' })
      const json = { title: 'x', due_date: '2030-05-17', [field]: value }
      const one = { op: 'update', id, data: json }
      const told = field === 'recurrence_from' ? field : 'recurrence'
      for (const [method, path, body, name] of [
        ['POST', '', json, told],
        ['PUT', `/${id}`, json, told],
        ['PATCH', `/${id}`, { [field]: value }, told],
        ['POST', '/bulk', { operations: [one] }, `operations.0.data.${told}`],
      ] as const) {
        const answer = await send<Refused>(user, method, path, { json: body })
        expect([answer.status, answer.body.code]).toEqual([422, 'validation_failed'])
        expect(answer.body.errors.map((error) => error.field)).toEqual([name])
      }
      expect(await rowsOf(user.id)).toHaveLength(1)
    },
  )

  test('that is not one is refused with a sentence that says why', async () => {
    const json = { title: 'x', due_date: '2030-05-17', recurrence: 'FREQ=DAILY;INTERVAL=0' }
    const { body } = await send<Refused & { detail: string }>(await newUser(), 'POST', '', { json })
    expect(body.detail).toBe(
      'recurrence: must be a recurrence rule (RFC 5545) with INTERVAL from 1 to 999 or null',
    )
  })

  test('may start on the last day of the calendar, after which there is none', async () => {
    const user = await newUser()
    const last = { due_date: '9999-12-31' } // a Friday
    for (const recurrence of ['daily', 'monthly', 'FREQ=WEEKLY;BYDAY=FR']) {
      const task = await create(user, { ...last, recurrence })
      expect(task).toMatchObject({ ...last, occurrence_date: last.due_date })
      const { body } = await send(user, 'PATCH', `/${task.id}/complete`)
      expect(body).toMatchObject({ completed: true, next_task_id: null })
    }
    const json = { title: 'x', ...last, recurrence: 'FREQ=WEEKLY;BYDAY=SA' }
    expect((await send(user, 'POST', '', { json })).status).toBe(422)
    // The day before is the last on which one comes: by then it is another year somewhere in UTC.
    const before = await create(user, { due_date: '9999-12-30', recurrence: 'daily' })
    expect((await send(user, 'PATCH', `/${before.id}/complete`)).body.next_task_id).toBeNull()
  })

  test('needs a due date, and goes with it', async () => {
    const user = await newUser()
    const refusal = { code: 'validation_failed', errors: [{ field: 'recurrence' }] }
    const without = { title: 'x', recurrence: 'daily' }
    const made = await send<Refused>(user, 'POST', '', { json: without })
    expect([made.status, made.body]).toMatchObject([422, refusal])
    const { id } = await create(user, {})
    for (const json of [{ recurrence: 'daily' }, { recurrence: 'daily', due_date: null }])
      expect((await send<Refused>(user, 'PUT', `/${id}`, { json })).body).toMatchObject(refusal)
    const inBulk = async (operation: object) =>
      send<Refused>(user, 'POST', '/bulk', { json: { operations: [operation] } })
    expect((await inBulk({ op: 'create', data: without })).status).toBe(422)
    expect(await inBulk({ op: 'update', id, data: { recurrence: 'daily' } })).toMatchObject({
      status: 409,
      body: { results: [{ status: 422, code: 'validation_failed' }] },
    })
    const dated = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const cleared = await send(user, 'PUT', `/${dated.id}`, { json: { due_date: null } })
    expect(cleared.body).toMatchObject({ due_date: null, recurrence: null, occurrence_date: null })
    expect((await send(user, 'PATCH', `/${dated.id}/complete`)).body.next_task_id).toBeNull()
  })
})

describe('completing', () => {
  test('creates the next task in the same change, with all that it takes over', async () => {
    const user = await newUser()
    const task = await create(user, {
      description: 'All of them',
      priority: 'high',
      tags: ['home', 'daily'],
      due_date: '2030-05-17',
      due_time: '09:30',
      due_timezone: 'Europe/Paris',
      recurrence: 'FREQ=DAILY;INTERVAL=3',
    })
    const { body, headers } = await send(user, 'PATCH', `/${task.id}/complete`)
    expect(headers.get('etag')).toBe('"2"')
    const next = await read(user, body.next_task_id)
    const { created_at, updated_at } = next
    expect(body).toEqual({
      ...task,
      completed: true,
      completed_at: expect.any(String),
      next_task_id: next.id,
      version: 2,
      updated_at: expect.any(String),
    })
    expect(next).toEqual({
      ...task,
      id: next.id,
      due_date: '2030-05-20',
      due_at: '2030-05-20T07:30:00.000Z',
      occurrence_date: '2030-05-20',
      created_at,
      updated_at,
    })
    expect((await complete(user, next)).series_id).toBe(task.id)
  })

  test.each([
    ['toggling', 'PATCH', '/complete', undefined],
    ['setting', 'PATCH', '/complete', { completed: true }],
    ['PUT', 'PUT', '', { completed: true }],
    ['a merge patch', 'PATCH', '', { completed: true, title: 'Done' }],
  ])('by %s is the same', async (_, method, rest, json) => {
    const user = await newUser()
    const { id } = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const { body } = await send(user, method, `/${id}${rest}`, json && { json })
    expect(await read(user, body.next_task_id)).toMatchObject({
      title: body.title,
      due_date: '2030-05-18',
      completed: false,
      version: 1,
    })
    // It is completed already.
    const again = await send(user, 'PUT', `/${id}`, { json: { completed: true } })
    expect(again.body.next_task_id).toBe(body.next_task_id)
    expect(await rowsOf(user.id)).toHaveLength(2)
  })

  test('with other changes in the same request, the next task has those, too', async () => {
    const user = await newUser()
    const { id } = await create(user, {
      description: 'Old',
      due_date: '2030-05-17',
      due_time: '09:30',
      recurrence: 'daily',
    })
    const json = {
      completed: true,
      title: 'New',
      description: null,
      tags: ['new'],
      priority: 'low',
      due_time: null,
      due_timezone: 'Asia/Tokyo',
      recurrence: 'weekly',
      due_date: '2030-06-03',
    }
    const { body } = await send(user, 'PUT', `/${id}`, { json })
    const { completed: _, ...kept } = json
    expect(await read(user, body.next_task_id)).toMatchObject({
      ...kept,
      recurrence: 'FREQ=WEEKLY',
      due_date: '2030-06-10',
    })
  })

  test('a task that is created completed has no next', async () => {
    const user = await newUser()
    const task = await create(user, {
      due_date: '2030-05-17',
      recurrence: 'daily',
      completed: true,
    })
    expect(task).toMatchObject({ completed: true, next_task_id: null })
    expect(await rowsOf(user.id)).toHaveLength(1)
  })

  test.each([
    ['monthly', '2031-01-31', ['2031-02-28', '2031-03-31', '2031-04-30', '2031-05-31']],
    ['monthly', '2032-01-31', ['2032-02-29', '2032-03-31']],
    ['yearly', '2032-02-29', ['2033-02-28', '2034-02-28', '2035-02-28', '2036-02-29']],
    ['FREQ=MONTHLY;BYMONTHDAY=31', '2031-01-31', ['2031-02-28', '2031-03-31', '2031-04-30']],
    ['FREQ=MONTHLY;BYMONTHDAY=-1', '2031-01-31', ['2031-02-28', '2031-03-31', '2031-04-30']],
    ['FREQ=MONTHLY;BYMONTHDAY=30,31', '2031-01-31', ['2031-02-28', '2031-03-30', '2031-03-31']],
    [
      'FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU',
      '2030-05-19',
      ['2030-05-27', '2030-06-02', '2030-06-10'],
    ],
    ['FREQ=MONTHLY;BYDAY=-1FR', '2030-05-31', ['2030-06-28', '2030-07-26', '2030-08-30']],
    ['FREQ=YEARLY;BYDAY=4TH;BYMONTH=11', '2030-11-28', ['2031-11-27', '2032-11-25']],
  ])('%s from %s: %j', async (recurrence, start, dates) => {
    const user = await newUser()
    const fields = { due_date: start, recurrence }
    expect(await chain(user, fields, dates.length + 1)).toEqual([start, ...dates])
  })

  test('a time that a clock change skips moves forward on that day alone', async () => {
    const user = await newUser()
    let task = await create(user, {
      due_date: '2027-03-27',
      due_time: '02:30',
      due_timezone: 'Europe/Paris',
      recurrence: 'daily',
    })
    const instants = [task.due_at]
    while (instants.length < 3) instants.push((task = await complete(user, task)).due_at)
    expect(instants).toEqual([
      '2027-03-27T01:30:00.000Z',
      '2027-03-28T01:30:00.000Z', // 03:30
      '2027-03-29T00:30:00.000Z',
    ])
    expect(task.due_time).toBe('02:30')
  })

  test('late: missed days are not made up, and today is not skipped', async () => {
    const user = await newUser()
    await onOneDay('UTC', async (today) => {
      const nextFrom = async (days: number, recurrence: string) =>
        (await complete(user, await create(user, { due_date: dayFrom(today, days), recurrence })))
          .due_date
      expect(await nextFrom(-30, 'daily')).toBe(today)
      expect(await nextFrom(-1, 'daily')).toBe(today)
      expect(await nextFrom(-10, 'FREQ=DAILY;INTERVAL=5')).toBe(today)
      expect(await nextFrom(-11, 'FREQ=DAILY;INTERVAL=5')).toBe(dayFrom(today, 4))
      // Completed on the due date, and before it.
      expect(await nextFrom(0, 'daily')).toBe(dayFrom(today, 1))
      expect(await nextFrom(0, 'weekly')).toBe(dayFrom(today, 7))
      expect(await nextFrom(3, 'daily')).toBe(dayFrom(today, 4))
    })
  })

  test.each(['Pacific/Kiritimati', 'Pacific/Niue'])('today is that of %s', async (zone) => {
    const user = await newUser()
    await onOneDay(zone, async (today) => {
      const fields = { due_date: '2026-01-01', due_timezone: zone, recurrence: 'daily' }
      expect((await complete(user, await create(user, fields))).due_date).toBe(today)
    })
  })

  test('from completion: the rule starts anew on that day', async () => {
    const user = await newUser()
    await onOneDay('UTC', async (today) => {
      const nextFrom = async (days: number, recurrence: string) =>
        complete(
          user,
          await create(user, {
            due_date: dayFrom(today, days),
            recurrence,
            recurrence_from: 'completion',
          }),
        )
      for (const days of [-30, -1, 0, 5]) {
        const next = await nextFrom(days, 'FREQ=DAILY;INTERVAL=3')
        expect(next).toMatchObject({
          due_date: dayFrom(today, 3),
          occurrence_date: dayFrom(today, 3),
          recurrence_from: 'completion',
        })
        expect((await complete(user, next)).due_date).toBe(dayFrom(today, 3))
      }
    })
  })

  test('COUNT is how many are left, and after the last there is none', async () => {
    const user = await newUser()
    const first = await create(user, { due_date: '2030-05-17', recurrence: 'FREQ=DAILY;COUNT=2' })
    const second = await complete(user, first)
    expect(second.recurrence).toBe('FREQ=DAILY;COUNT=1')
    const { body } = await send(user, 'PATCH', `/${second.id}/complete`)
    expect(body).toMatchObject({ completed: true, next_task_id: null })
    expect((await read(user, first.id)).recurrence).toBe('FREQ=DAILY;COUNT=2')
  })

  test('UNTIL is inclusive', async () => {
    const user = await newUser()
    await onOneDay('UTC', async (today) => {
      const until = today.replaceAll('-', '')
      const recurrence = `FREQ=DAILY;UNTIL=${until}`
      const late = await create(user, { due_date: dayFrom(today, -1), recurrence })
      const last = await complete(user, late)
      expect(last.due_date).toBe(today)
      const { body } = await send(user, 'PATCH', `/${last.id}/complete`)
      expect(body).toMatchObject({ completed: true, next_task_id: null })
    })
  })

  test('with a full list is refused, and nothing is completed', async () => {
    const user = await newUser()
    const { id } = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const last = await create(user, { due_date: '2030-05-17', recurrence: 'FREQ=DAILY;COUNT=1' })
    const plain = await create(user, {})
    for (const [method, path, json] of [
      ['PATCH', `/${id}/complete`, undefined],
      ['PUT', `/${id}`, { completed: true, recurrence: 'weekly' }],
      ['POST', '/bulk', { operations: [{ op: 'complete', id }] }],
    ] as const) {
      const answer = await send<Refused>(user, method, path, { ...(json && { json }) }, short)
      expect(answer.status).toBe(409)
      expect(answer.text).toContain('task_limit_reached')
    }
    expect(await read(user, id)).toMatchObject({ completed: false, version: 1 })
    // Completing is allowed if it adds no task.
    for (const each of [last, plain])
      expect((await send(user, 'PATCH', `/${each.id}/complete`, {}, short)).status).toBe(200)
    const ending = { json: { completed: true, recurrence: null } }
    expect((await send(user, 'PUT', `/${id}`, ending, short)).status).toBe(200)
  })

  const ending = { due_date: '2030-05-17', recurrence: 'FREQ=DAILY;UNTIL=20300517' }
  test.each<[string, number, object, object]>([
    ['counted from completion', 409, ending, { recurrence_from: 'completion' }],
    [
      'counted from its date',
      200,
      { ...ending, recurrence_from: 'completion' },
      { recurrence_from: 'due' },
    ],
    ['given a rule that goes on', 409, ending, { recurrence: 'FREQ=DAILY;UNTIL=20300518' }],
    ['given a rule that ends', 200, { ...ending, recurrence: 'daily' }, ending],
    [
      'moved to the last date of its rule',
      409,
      { ...ending, recurrence: 'FREQ=DAILY;UNTIL=20300518' },
      { recurrence: 'FREQ=DAILY;UNTIL=20300518', due_date: '2030-05-18' },
    ],
    ['without its date', 200, { ...ending, recurrence: 'daily' }, { due_date: null }],
  ])('%s, with a full list: %d', async (_, expected, fields, changes) => {
    const user = await newUser()
    const { id } = await create(user, fields)
    for (const title of ['Second', 'Third']) await create(user, { title })
    const json = { completed: true, ...changes }
    const { status, text } = await send(user, 'PUT', `/${id}`, { json }, short)
    expect([status, text.includes('task_limit_reached')]).toEqual([expected, expected === 409])
    expect(await read(user, id)).toMatchObject({ completed: status === 200 })
  })

  test('in bulk, each is followed by its next', async () => {
    const user = await newUser()
    const tasks = [
      await create(user, { due_date: '2030-05-17', recurrence: 'daily' }),
      await create(user, {}),
      await create(user, { due_date: '2030-05-17', recurrence: 'weekly' }),
    ]
    const operations = tasks.map(({ id }) => ({ op: 'complete', id }))
    const { body } = await send<{ results: { task: TaskBody }[] }>(user, 'POST', '/bulk', {
      json: { operations: [...operations, { op: 'create', data: { title: 'Another' } }] },
    })
    const [daily, plain, weekly] = body.results.map(({ task }) => task.next_task_id)
    expect(plain).toBeNull()
    expect((await read(user, daily!)).due_date).toBe('2030-05-18')
    expect((await read(user, weekly!)).due_date).toBe('2030-05-24')
    expect(await rowsOf(user.id)).toHaveLength(6)
  })

  test('a replay under a key creates nothing more, and a stale If-Match nothing at all', async () => {
    const user = await newUser()
    const { id } = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const stale = await send(user, 'PATCH', `/${id}/complete`, { headers: { 'if-match': '"9"' } })
    expect(stale.status).toBe(412)
    expect(await rowsOf(user.id)).toHaveLength(1)
    const once = { headers: { 'idempotency-key': crypto.randomUUID(), 'if-match': '"1"' } }
    const first = await send(user, 'PATCH', `/${id}/complete`, once)
    const again = await send(user, 'PATCH', `/${id}/complete`, once)
    expect(again.text).toBe(first.text)
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(await rowsOf(user.id)).toHaveLength(2)
  })
})

describe('taking it back', () => {
  test('removes the next task if nobody has touched it, and completing again makes another', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const next = await complete(user, task)
    const { body } = await send(user, 'PATCH', `/${task.id}/complete`)
    expect(body).toMatchObject({ completed: false, next_task_id: null, version: 3 })
    expect((await send(user, 'GET', `/${next.id}`)).status).toBe(404)
    expect((await send<unknown[]>(user, 'GET', '/trash')).body).toEqual([])
    const other = await complete(user, task)
    expect(other.due_date).toBe('2030-05-18')
    expect(await rowsOf(user.id)).toHaveLength(2)
  })

  const touches: [string, (user: User, id: number) => Promise<unknown>][] = [
    ['changed', async (user, id) => send(user, 'PUT', `/${id}`, { json: { title: 'Mine' } })],
    ['completed', async (user, id) => send(user, 'PATCH', `/${id}/complete`)],
    ['trashed', async (user, id) => send(user, 'DELETE', `/${id}`)],
  ]
  test.each(touches)(
    'leaves one that was %s, and completing again creates nothing',
    async (_, touch) => {
      const user = await newUser()
      const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
      const next = await complete(user, task)
      await touch(user, next.id)
      const before = (await rowsOf(user.id)).length
      for (const completed of [false, true, false, true]) {
        const { body } = await send(user, 'PATCH', `/${task.id}/complete`, { json: { completed } })
        expect(body).toMatchObject({ completed, next_task_id: next.id })
      }
      expect(await rowsOf(user.id)).toHaveLength(before)
    },
  )

  test('together with a change of the next task leaves that task there, since it was touched', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const next = await complete(user, task)
    const { status } = await send(user, 'POST', '/bulk', {
      json: {
        operations: [
          { op: 'complete', id: task.id, data: { completed: false } },
          { op: 'update', id: next.id, data: { title: 'Mine' } },
        ],
      },
    })
    expect(status).toBe(200)
    expect(await read(user, next.id)).toMatchObject({ title: 'Mine', version: 2 })
    expect((await read(user, task.id)).next_task_id).toBe(next.id)
  })

  test.each([
    ['an older version of it', { if_version: 7, data: { title: 'Mine' } }, 'version_conflict'],
    [
      'it, without its date',
      { data: { recurrence: 'daily', due_date: null } },
      'validation_failed',
    ],
  ])('removes it in bulk, though a change of %s is refused', async (_, change, code) => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const next = await complete(user, task)
    const { body } = await send<{ results: object[] }>(user, 'POST', '/bulk', {
      json: {
        atomic: false,
        operations: [
          { op: 'complete', id: task.id, data: { completed: false } },
          { op: 'update', id: next.id, ...change },
        ],
      },
    })
    expect(body.results).toMatchObject([{ status: 200, task: { next_task_id: null } }, { code }])
    expect((await rowsOf(user.id)).map(({ id }) => id)).toEqual([task.id])
  })

  test('removes it, though a change of it in the same statement is refused', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const { id: next } = await complete(user, task)
    const of = { owner: user.id, ofSeries: true }
    const writes: Write[] = [
      { ...of, operation: { op: 'toggle', id: task.id } },
      {
        ...of,
        operation: { op: 'update', id: next, fields: { title: 'Mine' } },
        precondition: [7],
      },
    ]
    const options = { maxTasksPerUser: 10, waits: false, patience: '100' }
    const outcomes = await database.query<Outcome>`
      ${createSetStatement(database)(writes, options)}`
    expect(outcomes.map(({ place }) => place)).toEqual([0])
    expect((await rowsOf(user.id)).map(({ id }) => id)).toEqual([task.id])
  })

  test('in bulk removes it, too', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    await complete(user, task)
    const operations = [{ op: 'complete', id: task.id, data: { completed: false } }]
    await send(user, 'POST', '/bulk', { json: { operations } })
    expect(await rowsOf(user.id)).toHaveLength(1)
  })
})

describe('this or all', () => {
  test('a new due date moves this one alone', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'weekly' })
    const moved = await send(user, 'PUT', `/${task.id}`, { json: { due_date: '2030-05-19' } })
    expect(moved.body).toMatchObject({ due_date: '2030-05-19', occurrence_date: '2030-05-17' })
    expect(await complete(user, task)).toMatchObject({
      due_date: '2030-05-24',
      occurrence_date: '2030-05-24',
    })
  })

  test('other fields carry over to what comes after, and what is completed stays', async () => {
    const user = await newUser()
    const first = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const second = await complete(user, first)
    await send(user, 'PATCH', `/${second.id}`, { json: { title: 'Feed the cat', tags: ['cat'] } })
    expect(await complete(user, second)).toMatchObject({ title: 'Feed the cat', tags: ['cat'] })
    expect(await read(user, first.id)).toMatchObject({ title: first.title, tags: [] })
  })

  test('a rule that is sent starts anew at the due date', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'weekly' })
    const put = async (json: object) => (await send(user, 'PUT', `/${task.id}`, { json })).body
    await put({ due_date: '2030-05-19' })
    expect((await put({ recurrence: 'weekly' })).occurrence_date).toBe('2030-05-19')
    expect((await put({ recurrence: 'monthly', due_date: '2030-05-20' })).occurrence_date).toBe(
      '2030-05-20',
    )
    const every = await put({ recurrence: 'FREQ=DAILY;INTERVAL=10' })
    expect(every.occurrence_date).toBe('2030-05-20')
    expect((await complete(user, task)).due_date).toBe('2030-05-30')
  })

  test('the rule that it has, sent alone, starts anew at the due date, too', async () => {
    const user = await newUser()
    const january = await create(user, { due_date: '2031-01-31', recurrence: 'monthly' })
    const february = await complete(user, january)
    const json = { recurrence: february.recurrence }
    await send(user, 'PATCH', `/${february.id}`, { json })
    expect((await complete(user, february)).due_date).toBe('2031-03-28')
  })

  test('whoever sends a whole task back with another date moves this one alone', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2031-01-31', recurrence: 'monthly' })
    const february = await complete(user, task)
    const json = { ...february, due_date: '2031-02-20' }
    const moved = await send(user, 'PUT', `/${february.id}`, { json })
    expect(moved.body).toMatchObject({ due_date: '2031-02-20', occurrence_date: '2031-02-28' })
    expect((await complete(user, february)).due_date).toBe('2031-03-31')
  })

  test('whoever sends a task back as it was read changes nothing of the rule', async () => {
    const user = await newUser()
    const january = await create(user, { due_date: '2031-01-31', recurrence: 'monthly' })
    const february = await complete(user, january)
    const sent = { ...february, title: 'Pay the rent', due_date: '2031-02-28' }
    await send(user, 'PUT', `/${february.id}`, { json: sent })
    const json = { due_date: '2031-02-20' }
    const moved = (await send(user, 'PUT', `/${february.id}`, { json })).body
    await send(user, 'PUT', `/${february.id}`, { json: { ...moved, description: 'By bank' } })
    const march = await complete(user, february)
    expect(march).toMatchObject({ title: 'Pay the rent', due_date: '2031-03-31' })
  })

  test('null ends it, and a task in the middle can be given a rule again', async () => {
    const user = await newUser()
    const first = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const second = await complete(user, first)
    const ended = await send(user, 'PATCH', `/${second.id}`, { json: { recurrence: null } })
    expect(ended.body).toMatchObject({
      recurrence: null,
      occurrence_date: null,
      series_id: first.id,
    })
    expect((await send(user, 'PATCH', `/${second.id}/complete`)).body.next_task_id).toBeNull()
    const json = { recurrence: 'weekly', completed: false }
    await send(user, 'PATCH', `/${second.id}`, { json })
    expect(await complete(user, second)).toMatchObject({
      due_date: '2030-05-25',
      series_id: first.id,
    })
  })

  test('the first goes on naming its series when its own rule has ended', async () => {
    const user = await newUser()
    const first = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const second = await complete(user, first)
    const json = { recurrence: null }
    const ended = await send(user, 'PATCH', `/${first.id}`, { json })
    expect(ended.body).toMatchObject({ recurrence: null, series_id: first.id })
    expect((await read(user, second.id)).series_id).toBe(first.id)
  })

  test('in the trash the series ends, and out of it it goes on', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    await send(user, 'DELETE', `/${task.id}`)
    expect((await send(user, 'POST', `/${task.id}/skip`)).status).toBe(404)
    await send(user, 'POST', `/${task.id}/restore`)
    expect((await complete(user, task)).due_date).toBe('2030-05-18')
  })
})

describe('skipping', () => {
  test('what counts from completion moves on each time, from its own day if that is ahead', async () => {
    const user = await newUser()
    await onOneDay('UTC', async (today) => {
      const fields = { recurrence: 'FREQ=DAILY;INTERVAL=3', recurrence_from: 'completion' }
      for (const due_date of [today, dayFrom(today, 30)]) {
        const { id } = await create(user, { ...fields, due_date })
        const dates = []
        for (let skip = 0; skip < 3; skip += 1)
          dates.push((await send(user, 'POST', `/${id}/skip`)).body.due_date)
        expect(dates).toEqual([3, 6, 9].map((days) => dayFrom(due_date, days)))
      }
    })
  })

  test('moves the task to its next date, from wherever it was moved', async () => {
    const user = await newUser()
    const task = await create(user, {
      due_date: '2031-01-31',
      due_time: '09:30',
      recurrence: 'FREQ=MONTHLY;COUNT=3',
    })
    await send(user, 'PUT', `/${task.id}`, { json: { due_date: '2031-02-02' } })
    const { status, body, headers } = await send(user, 'POST', `/${task.id}/skip`)
    expect([status, headers.get('etag')]).toEqual([200, '"3"'])
    expect(body).toMatchObject({
      id: task.id,
      due_date: '2031-02-28',
      due_time: '09:30',
      occurrence_date: '2031-02-28',
      recurrence: 'FREQ=MONTHLY;COUNT=2',
      completed: false,
    })
    expect((await complete(user, task)).due_date).toBe('2031-03-31')
    expect(await rowsOf(user.id)).toHaveLength(2)
  })

  test('takes If-Match and Idempotency-Key', async () => {
    const user = await newUser()
    const { id } = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const skip = async (headers: Record<string, string>) =>
      send(user, 'POST', `/${id}/skip`, { headers })
    expect((await skip({ 'if-match': '"2"' })).status).toBe(412)
    const key = { 'idempotency-key': crypto.randomUUID() }
    const [first, again] = [await skip(key), await skip(key)]
    expect([again.text, again.headers.get('idempotent-replayed')]).toEqual([first.text, 'true'])
    expect((await read(user, id)).due_date).toBe('2030-05-18')
  })

  test('is refused if there is no next date, or no rule', async () => {
    const user = await newUser()
    const plain = await create(user, { due_date: '2030-05-17' })
    const last = await create(user, { due_date: '2030-05-17', recurrence: 'FREQ=DAILY;COUNT=1' })
    const until = await create(user, {
      due_date: '2030-05-17',
      recurrence: 'FREQ=DAILY;UNTIL=20300517',
    })
    const done = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    await complete(user, done)
    for (const [task, code] of [
      [plain, 'not_recurring'],
      [last, 'recurrence_ended'],
      [until, 'recurrence_ended'],
      [done, 'recurrence_ended'],
    ] as const) {
      const { status, body } = await send<Refused>(user, 'POST', `/${task.id}/skip`)
      expect([status, body.code]).toEqual([409, code])
    }
    expect((await read(user, plain.id)).version).toBe(1)
  })
})

describe('whoever follows the changes', () => {
  type Page = {
    items: TaskBody[]
    deleted: { id: number }[]
    sync_token: string
    has_more: boolean
  }

  test('is told of both tasks one by one, and of the one that goes', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const start = (await send<Page>(user, 'GET', '/changes')).body.sync_token
    const next = await complete(user, task)

    async function follow(since: string): Promise<[Page[], string]> {
      let token = since
      const pages: Page[] = []
      for (let more = true; more;) {
        const { body } = await send<Page>(user, 'GET', `/changes?limit=1&since=${token}`)
        pages.push(body)
        token = body.sync_token
        more = body.has_more
      }
      return [pages, token]
    }

    const [pages, then] = await follow(start)
    expect(pages.map(({ items }) => items.map(({ id }) => id))).toEqual([[task.id], [next.id]])
    await send(user, 'PATCH', `/${task.id}/complete`)
    const [back] = await follow(then)
    expect(back.map(({ items, deleted }) => [items, deleted].flat().map(({ id }) => id))).toEqual([
      [task.id],
      [next.id],
    ])
    expect(back[1]!.deleted).toHaveLength(1)
  })

  test('hears task.updated and task.created, and task.updated and task.deleted', async () => {
    const user = await newUser()
    const task = await create(user, { due_date: '2030-05-17', recurrence: 'daily' })
    const stream = await openEvents(`${api.origin}/api/tasks/events`, bearer(user))
    const next = await complete(user, task)
    await stream.received(2)
    await send(user, 'PATCH', `/${task.id}/complete`)
    await stream.received(4)
    stream.close()
    expect(stream.events.map(({ event, data }) => [event, (data as TaskBody).id])).toEqual([
      ['task.updated', task.id],
      ['task.created', next.id],
      ['task.updated', task.id],
      ['task.deleted', next.id],
    ])
  })

  test('finds all that was completed in the list, with the days of each', async () => {
    const user = await newUser()
    await chain(user, { due_date: '2030-05-17', recurrence: 'daily' }, 4)
    const { body } = await send<TaskBody[]>(user, 'GET', '?status=completed')
    expect(body.map(({ occurrence_date }) => occurrence_date)).toEqual([
      '2030-05-17',
      '2030-05-18',
      '2030-05-19',
    ])
    expect(new Set(body.map(({ series_id }) => series_id))).toEqual(new Set([body[0]!.id]))
  })
})
