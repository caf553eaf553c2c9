import { afterAll, describe, expect, test } from 'bun:test'
import { database, newUser, startApi, type RequestOptions, type TaskBody } from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { purge } from '../../tasks/purge.ts'

const api = startApi()
/** A server that relies on its timers alone. */
const withTimersAlone = startApi({ lookEvery: 1_000_000 })
afterAll(async () => Promise.all([api.stop(), withTimersAlone.stop()]))

type User = { id: string; token: string }

async function send<Body = TaskBody>(
  { token }: User,
  method: string,
  path: string,
  options: RequestOptions = {},
) {
  const answer = await api.request<Body>(method, `/api/tasks${path}`, { token, ...options })
  expect(answer.status).toBeLessThan(500)
  return answer
}

/** A new user's only task. */
async function create(json: object) {
  const user = await newUser()
  const { status, body } = await send(user, 'POST', '', { json: { title: 'Reminded', ...json } })
  expect(status).toBe(201)
  const change = async (fields: object) =>
    (await send(user, 'PATCH', `/${body.id}`, { json: fields })).body
  return { user, task: body, change, path: `/${body.id}` }
}

/** The instants that wait in the database. */
async function waiting({ id }: User): Promise<string[]> {
  const rows = await database.query<{ at: string }>`
    select to_char(fires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at
    from todo_api.reminders where user_id = ${id} and change is null order by fires_at`
  return rows.map(({ at }) => at)
}

const due = { due_date: '2126-03-01', due_time: '09:30', due_timezone: 'UTC' }
const half = { minutes_before: 30 }
const day = { minutes_before: 1440 }
const early = { at: '2126-01-01T00:00:00.000Z' }

describe('the field', () => {
  test('is an empty list until it is set, and every change that does not name it keeps it', async () => {
    const { user, task, change, path } = await create({})
    expect(task.reminders).toEqual([])
    const reminders = [half, early, { minutes_before: 0 }]
    expect(await change({ reminders })).toMatchObject({ reminders, version: 2 })
    expect(await change({ title: 'Renamed', ...due })).toMatchObject({ reminders, version: 3 })
    expect((await send(user, 'GET', path)).body.reminders).toEqual(reminders)
    expect((await send<TaskBody[]>(user, 'GET', '')).body[0]!.reminders).toEqual(reminders)
    expect(await change({ reminders: [] })).toMatchObject({ reminders: [], version: 4 })
    expect(await waiting(user)).toEqual([])
  })

  test('keeps instants in UTC to the millisecond, and drops keys that nobody knows', async () => {
    const { task, user } = await create({
      reminders: [
        { at: '2126-01-01T01:00:00.1239+01:00', sound: 'bell' },
        { minutes_before: 40320 },
      ],
    })
    expect(task.reminders).toEqual([{ at: '2126-01-01T00:00:00.123Z' }, { minutes_before: 40320 }])
    expect(await waiting(user)).toEqual(['2126-01-01T00:00:00.123Z'])
  })

  test('is also spelled reminder_at', async () => {
    const { task, change, user } = await create({ reminder_at: '2126-01-01T01:00:00+01:00' })
    expect(task.reminders).toEqual([early])
    expect(await change({ reminder_at: null })).toMatchObject({ reminders: [] })
    expect(await change({ reminder_at: early.at })).toMatchObject({ reminders: [early] })
    // No answer has reminder_at: whoever sends it means it, and sends the rest back as it was read.
    expect(await change({ reminders: [half], reminder_at: early.at })).toMatchObject({
      reminders: [early],
    })
    expect(await change({ reminders: [half], reminder_at: null })).toMatchObject({ reminders: [] })
    const { body } = await send<{ results: { task: TaskBody }[] }>(user, 'POST', '/bulk', {
      json: {
        operations: [
          { op: 'create', data: { title: 'Many', reminder_at: early.at } },
          { op: 'update', id: task.id, data: { reminders: [early, day] } },
        ],
      },
    })
    expect(body.results.map((result) => result.task.reminders)).toEqual([[early], [early, day]])
  })

  test.each<[unknown]>([
    [null],
    [half],
    [[{}]],
    [[null]],
    [[30]],
    [[{ ...half, ...early }]],
    [[{ ...half, at: null }]],
    [[{ minutes_before: -1 }]],
    [[{ minutes_before: 40321 }]],
    [[{ minutes_before: 1.5 }]],
    [[{ minutes_before: '30' }]],
    [[{ at: '2126-01-01' }]],
    [[{ at: '2126-02-30T00:00:00Z' }]],
    [[{ at: '2126-01-01T00:00:00' }]],
    [[{ at: '0001-01-01T00:00:00+14:00' }]],
    [[half, half]],
    [[early, { at: '2126-01-01T01:00:00+01:00' }]],
    [[1, 2, 3, 4, 5, 6].map((minutes_before) => ({ minutes_before }))],
  ])('refuses %j, alone and in bulk', async (reminders) => {
    const user = await newUser()
    const json = { title: 'Refused', reminders }
    const alone = await send<unknown>(user, 'POST', '', { json })
    expect(alone.status).toBe(422)
    expect(alone.body).toMatchObject({
      code: 'validation_failed',
      errors: [{ field: 'reminders' }],
    })
    const many = await send<unknown>(user, 'POST', '/bulk', {
      json: { operations: [{ op: 'create', data: json }] },
    })
    expect(many.body).toMatchObject({ errors: [{ field: 'operations.0.data.reminders' }] })
    expect((await send<unknown>(user, 'GET', '')).body).toEqual([])
  })

  test.each(['2126-01-01', 'tomorrow', 1, {}])('refuses reminder_at %j', async (at) => {
    const user = await newUser()
    const { status, body } = await send<unknown>(user, 'POST', '', {
      json: { title: 'Refused', reminder_at: at },
    })
    expect(status).toBe(422)
    expect(body).toMatchObject({ errors: [{ field: 'reminder_at' }] })
  })
})

describe('what waits', () => {
  test('goes with the due date, and sleeps while there is no instant', async () => {
    const { user, change } = await create({ reminders: [half, day] })
    expect(await waiting(user)).toEqual([])
    await change({ due_date: due.due_date, due_time: due.due_time })
    expect(await waiting(user)).toEqual([])
    await change({ due_timezone: 'UTC' })
    expect(await waiting(user)).toEqual(['2126-02-28T09:30:00.000Z', '2126-03-01T09:00:00.000Z'])
    await change({ due_time: '10:00' })
    expect(await waiting(user)).toEqual(['2126-02-28T10:00:00.000Z', '2126-03-01T09:30:00.000Z'])
    await change({ due_time: null })
    expect(await waiting(user)).toEqual([])
    await change(due)
    await change({ due_date: null })
    expect(await waiting(user)).toEqual([])
  })

  test('of a time that clocks skip, or meet twice, goes by the instant of the task', async () => {
    const zone = { due_time: '02:30', due_timezone: 'Europe/Paris' }
    const hour = { reminders: [{ minutes_before: 60 }] }
    const { user, change } = await create({ due_date: '2127-03-30', ...zone, ...hour })
    expect(await waiting(user)).toEqual(['2127-03-30T00:30:00.000Z'])
    await change({ due_date: '2127-10-26' })
    expect(await waiting(user)).toEqual(['2127-10-25T23:30:00.000Z'])
  })

  test('does not include a reminder that is past when it is set', async () => {
    const past = { at: '2020-01-01T00:00:00.000Z' }
    const { user, task, change } = await create({ reminders: [past, early] })
    expect(task.reminders).toEqual([past, early])
    expect(await waiting(user)).toEqual([early.at])
    await change({ ...due, due_date: '2020-01-01', reminders: [half] })
    expect(await waiting(user)).toEqual([])
  })

  test('is silenced by completing and by the trash, and comes back with the task', async () => {
    const { user, path } = await create({ reminders: [early] })
    for (const [method, rest, back, backRest] of [
      ['PATCH', '/complete', 'PATCH', '/complete'],
      ['DELETE', '', 'POST', '/restore'],
    ] as const) {
      await send(user, method, `${path}${rest}`)
      expect(await waiting(user)).toEqual([])
      await send(user, back, `${path}${backRest}`)
      expect(await waiting(user)).toEqual([early.at])
    }
    await send(user, 'DELETE', `${path}?permanent=true`)
    expect(await waiting(user)).toEqual([])
    const completed = await create({ completed: true, reminders: [early] })
    expect(await waiting(completed.user)).toEqual([])
  })
})

test('the next occurrence inherits reminders that count back, and none at an instant; taking it back removes them', async () => {
  const { user, change, path } = await create({
    ...due,
    recurrence: 'FREQ=DAILY',
    reminders: [half, early],
  })
  const { next_task_id: id } = await change({ completed: true, reminders: [early, day, half] })
  const next = (await send(user, 'GET', `/${id}`)).body
  expect(next).toMatchObject({ due_date: '2126-03-02', reminders: [day, half] })
  const ofNext = ['2126-03-01T09:30:00.000Z', '2126-03-02T09:00:00.000Z']
  expect(await waiting(user)).toEqual(ofNext)
  const bulk = { operations: [{ op: 'complete', id }] }
  const { body } = await send<{ results: { task: TaskBody }[] }>(user, 'POST', '/bulk', {
    json: bulk,
  })
  const third = (await send(user, 'GET', `/${body.results[0]!.task.next_task_id}`)).body
  expect(third).toMatchObject({ due_date: '2126-03-03', reminders: [day, half] })
  await send(user, 'PATCH', `/${id}/complete`)
  expect(await waiting(user)).toEqual(ofNext)
  await send(user, 'POST', `/${id}/skip`)
  expect(await waiting(user)).toEqual(['2126-03-02T09:30:00.000Z', '2126-03-03T09:00:00.000Z'])
  await send(user, 'DELETE', `/${id}`)
  expect(await waiting(user)).toEqual([])
  expect((await send(user, 'GET', path)).body.reminders).toEqual([early, day, half])
})

type Due = { task: TaskBody; fires_at: string; late: boolean }

async function follow({ token }: User, lastEventId?: string, { origin } = api) {
  return openEvents(`${origin}/api/tasks/events`, {
    authorization: `Bearer ${token}`,
    ...(lastEventId !== undefined && { 'last-event-id': lastEventId }),
  })
}

const dueIn = ({ events }: Awaited<ReturnType<typeof follow>>) =>
  events.filter(({ event }) => event === 'reminder.due').map(({ data }) => data as Due)

/** Makes waiting reminders look as if they had been due for this many seconds. */
async function letBeDue({ id }: User, ...secondsAgo: number[]): Promise<void> {
  for (const [index, seconds] of secondsAgo.entries())
    await database.query`
      update todo_api.reminders set fires_at = now() - make_interval(secs => ${seconds}::float8)
      where user_id = ${id} and change is null and fires_at = (
        select fires_at from todo_api.reminders where user_id = ${id} and change is null
        order by fires_at offset ${index} limit 1
      )`
}

/** Makes reminders look as if they had been told this many seconds ago. */
async function letBeTold({ id }: User, secondsAgo: number): Promise<void> {
  await database.query`
    update todo_api.reminders set fired_at = now() - make_interval(secs => ${secondsAgo}::float8)
    where user_id = ${id} and change is not null`
}

/** By the database's clock. */
async function instantIn(seconds: number): Promise<string> {
  const [row] = await database.query<{ at: string }>`
    select to_char((clock_timestamp() + make_interval(secs => ${seconds}::float8)) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at`
  return row!.at
}

describe('reminder.due', () => {
  test('comes once to every stream when its time is there, by a timer', async () => {
    const { user, task, path } = await create({})
    const streams = await Promise.all(
      [1, 2].map(async () => follow(user, undefined, withTimersAlone)),
    )
    const at = await instantIn(1.5)
    const { token } = user
    const patch = async (rest: string, json?: object) =>
      withTimersAlone.request<TaskBody>('PATCH', `/api/tasks${path}${rest}`, { token, json })
    const changed = await patch('', { reminders: [{ at }] })
    for (const stream of streams) await stream.received(2)
    const etag = changed.headers.get('etag')!
    for (const { events } of streams) {
      expect(events.map(({ event }) => event)).toEqual(['task.updated', 'reminder.due'])
      expect(events[1]!.data).toEqual({ task: changed.body, fires_at: at, late: false })
      expect(events[1]!.id).toBe('3')
    }
    // The task itself has not changed.
    const read = await send(user, 'GET', path, { headers: { 'if-none-match': etag } })
    expect(read.status).toBe(304)
    const changes = await send<{ items: TaskBody[]; sync_token: string }>(user, 'GET', '/changes')
    expect(changes.body.items).toEqual([changed.body])
    expect(changes.body.sync_token).toStartWith('3.')
    const { sync_token: since } = changes.body
    const none = await send<object>(user, 'GET', `/changes?since=${since}`)
    expect(none.body).toMatchObject({ items: [], deleted: [], has_more: false })
    // It does not stop later events.
    await patch('/complete')
    for (const stream of streams) {
      await stream.received(3)
      expect(stream.events[2]).toMatchObject({ id: '4', event: 'task.updated' })
      stream.close()
    }
    expect(task.version).toBe(1)
  })

  test('of a task whose due date moved comes at the new time, and not at the old one', async () => {
    const { user, change } = await create({ ...due, reminders: [{ minutes_before: 0 }, day] })
    const stream = await follow(user)
    const at = await instantIn(120)
    // To the full minute: due times have no seconds.
    const [date, time] = [at.slice(0, 10), at.slice(11, 16)]
    await change({ due_date: date, due_time: time })
    expect(await waiting(user)).toEqual([`${date}T${time}:00.000Z`])
    await letBeDue(user, 1)
    await stream.received(2)
    expect(dueIn(stream)).toMatchObject([{ task: { due_date: date }, late: false }])
    stream.close()
  })

  test('that came while nobody listened is told at the next connection: late, only the last of each task, never after a day', async () => {
    const { user, task } = await create({
      reminders: [1, 2, 3, 4, 5].map((minutes_before) => ({ minutes_before })),
      ...due,
    })
    await letBeDue(user, 90_000, 7_200, 3_600, 61.5, 1)
    const other = (await send(user, 'POST', '', { json: { title: 'Other', reminders: [early] } }))
      .body
    await database.query`
      update todo_api.reminders set fires_at = now() - interval '1 hour' where task_id = ${other.id}`
    const old = (await send(user, 'POST', '', { json: { title: 'Old', reminders: [early] } })).body
    await database.query`
      update todo_api.reminders set fires_at = now() - interval '25 hours' where task_id = ${old.id}`
    const stream = await follow(user)
    await stream.received(3)
    expect(dueIn(stream).map((each) => [each.task.id, each.late])).toEqual([
      [other.id, true],
      [task.id, true],
      [task.id, false],
    ])
    expect(await waiting(user)).toEqual([])
    await letBeTold(user, 61)
    const again = await follow(user)
    await send(user, 'POST', '', { json: { title: 'After' } })
    await again.received(1)
    expect(again.events[0]!.event).toBe('task.created')
    for (const each of [stream, again]) each.close()
  })

  test('is told again after a Last-Event-ID from before it, for a day, and not to a stream that begins anew', async () => {
    const { user, path } = await create({ reminders: [early] })
    await letBeDue(user, 5)
    const first = await follow(user)
    await first.received(1)
    first.close()
    const resumed = await follow(user, '1')
    await resumed.received(1)
    expect(resumed.events).toEqual(first.events)
    resumed.close()
    await letBeTold(user, 61)
    const anew = await follow(user, '0')
    await send(user, 'PATCH', path, { json: { title: 'Renamed' } })
    await anew.until(() => anew.events.some(({ id }) => id === '3'))
    expect(dueIn(anew)).toEqual([])
    anew.close()
    const late = await follow(user, '1')
    await late.received(2)
    expect(late.events.map(({ event }) => event)).toEqual(['reminder.due', 'task.updated'])
    expect(dueIn(late)[0]!.task.title).toBe('Renamed')
    late.close()
    await letBeTold(user, 25 * 3_600)
    const tooLate = await follow(user, '1')
    await tooLate.received(1)
    expect(tooLate.events.map(({ event }) => event)).toEqual(['task.updated'])
    tooLate.close()
  })

  test('is not told again when a stream that began with 0 resumes, whatever its numbers are', async () => {
    const { user, path } = await create({ reminders: [early] })
    await letBeDue(user, 5)
    const first = await follow(user)
    await first.received(1)
    first.close()
    await letBeTold(user, 61)
    const anew = await follow(user, '0')
    // The last event has a smaller number than the reminder; the id moves on without one.
    await anew.until(() => anew.lastId() === '2')
    expect(anew.events.map(({ id }) => id)).toEqual(['1'])
    anew.close()
    const resumed = await follow(user, anew.lastId())
    await send(user, 'PATCH', path, { json: { title: 'Renamed' } })
    await resumed.received(1)
    expect(resumed.events[0]).toMatchObject({ id: '3', event: 'task.updated' })
    resumed.close()
  })

  test('that was told in the last minute is told to a new stream, too, since its first readers may have been gone', async () => {
    const { user, change } = await create({
      reminders: [early, { at: '2126-01-02T00:00:00.000Z' }],
    })
    await letBeDue(user, 100)
    const gone = await follow(user)
    await gone.received(1)
    gone.close()
    await letBeTold(user, 61)
    const token = (await send(user, 'GET', '')).headers.get('sync-token')!
    await change({ title: 'Renamed' })
    await letBeDue(user, 1)
    const lost = await follow(user)
    await lost.until(() => dueIn(lost).length === 1)
    lost.close()
    // Nothing has come to them but the second reminder, which is number 4.
    for (const [seen, events] of [
      ['0', ['task.created', 'reminder.due']],
      [undefined, ['reminder.due']],
      ['never', ['resync', 'reminder.due']],
      [token, ['task.updated', 'reminder.due']],
      ['3', ['reminder.due']],
    ] as const) {
      const stream = await follow(user, seen)
      await stream.until(() => stream.lastId() === '4')
      expect([seen, stream.events.map(({ event }) => event)]).toEqual([seen, [...events]])
      stream.close()
    }
    await change({ title: 'Again' })
    const known = (await send(user, 'GET', '')).headers.get('sync-token')!
    for (const seen of [undefined, '0', known]) {
      const stream = await follow(user, seen)
      await stream.until(() => dueIn(stream).length > 0 && stream.lastId() === '5')
      expect(dueIn(stream)).toMatchObject([{ task: { title: 'Again' } }])
      stream.close()
    }
    const resumed = await follow(user, '4')
    await resumed.until(() => resumed.lastId() === '5')
    expect(dueIn(resumed)).toEqual([])
    resumed.close()
  })

  test('is not told again of a task that has been completed or deleted since', async () => {
    for (const [method, rest] of [
      ['PATCH', '/complete'],
      ['DELETE', ''],
      ['DELETE', '?permanent=true'],
    ] as const) {
      const { user, path } = await create({ reminders: [early] })
      await letBeDue(user, 5)
      const first = await follow(user)
      await first.received(1)
      first.close()
      await send(user, method, `${path}${rest}`)
      const resumed = await follow(user, '1')
      await resumed.received(1)
      expect(resumed.events).toMatchObject([{ id: '3' }])
      expect(dueIn(resumed)).toEqual([])
      resumed.close()
    }
  })

  test('comes for each of many at once, in the order of their numbers', async () => {
    const user = await newUser()
    const operations = Array.from({ length: 100 }, (_, n) => ({
      op: 'create',
      data: { title: `Task ${n}`, reminders: [early] },
    }))
    for (let batch = 0; batch < 6; batch += 1)
      await send(user, 'POST', '/bulk', { json: { operations } })
    await database.query`
      update todo_api.reminders set fires_at = now() - task_id % 600 * interval '50 ms' where user_id = ${user.id}`
    const stream = await follow(user)
    await stream.received(600)
    const all = dueIn(stream)
    expect(new Set(all.map((each) => each.task.id)).size).toBe(600)
    const ids = stream.events.map(({ id }) => Number(id))
    expect(ids).toEqual(ids.toSorted((a, b) => a - b))
    stream.close()
  })

  test('has its task in the words of a dialect', async () => {
    const { user } = await create({ reminders: [early] })
    await letBeDue(user, 5)
    const stream = await openEvents(`${api.origin}/compat/array/api/tasks/events`, {
      authorization: `Bearer ${user.token}`,
    })
    await stream.received(1)
    expect(stream.events[0]!.data).toMatchObject({
      task: { completed: false, is_completed: false, priority: 'medium', reminders: [early] },
      late: false,
    })
    stream.close()
  })
})

test('rows of reminders go a day after they were due or told, and a lost list counts on from beyond them', async () => {
  const { user } = await create({ reminders: [early, { at: '2126-01-02T00:00:00.000Z' }] })
  await letBeDue(user, 5)
  const stream = await follow(user)
  await stream.received(1)
  stream.close()
  await purge(database)
  const rows = async () =>
    database.query`
      select change from todo_api.reminders where user_id = ${user.id} order by change`
  expect(await rows()).toEqual([{ change: 2 }, { change: null }])
  await database.query`delete from todo_api.task_lists where user_id = ${user.id}`
  await send(user, 'POST', '', { json: { title: 'Another' } })
  const [list] = await database.query<{ counter: number }>`
    select counter from todo_api.task_lists where user_id = ${user.id}`
  expect(list!.counter).toBeGreaterThan(3)
  await database.query`
    update todo_api.reminders set
      fires_at = now() - interval '25 hours', fired_at = now() - interval '23 hours'
    where user_id = ${user.id} and change is not null`
  await letBeDue(user, 90_100)
  await purge(database)
  expect(await rows()).toEqual([{ change: 2 }])
  await database.query`
    update todo_api.reminders set fired_at = now() - interval '25 hours' where user_id = ${user.id}`
  await purge(database)
  expect(await rows()).toEqual([])
})
