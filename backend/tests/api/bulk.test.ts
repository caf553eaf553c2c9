import { afterAll, describe, expect, test } from 'bun:test'
import { connect as dial } from 'node:net'
import type { BulkResults } from '../../tasks/bulk.ts'
import { database, newUser, rowsOf, startApi, tokenFor, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'

const api = startApi()
afterAll(api.stop)

type Result = BulkResults['results'][number]
type Answered = { results: Result[]; code?: string; errors?: { field: string; detail: string }[] }

async function bulk(token: string, json: unknown, headers: Record<string, string> = {}) {
  return api.request<Answered>('POST', '/api/tasks/bulk', { token, json, headers })
}

async function create(token: string, title: string): Promise<TaskBody> {
  return (await api.request<TaskBody>('POST', '/api/tasks', { token, json: { title } })).body
}

async function read(token: string, id: number) {
  return api.request<TaskBody>('GET', `/api/tasks/${id}`, { token })
}

describe('many operations at once', () => {
  test('each is what the route for one task would do, in the order of the request', async () => {
    const { token } = await newUser()
    const [kept, done, gone, back] = [
      await create(token, 'Kept'),
      await create(token, 'Done'),
      await create(token, 'Gone'),
      await create(token, 'Back'),
    ]
    await api.request('DELETE', `/api/tasks/${back.id}`, { token })
    const { status, body } = await bulk(token, {
      operations: [
        { op: 'create', data: { title: '  New  ', tags: ['home'], due_date: '2030-05-17' } },
        { op: 'update', id: kept.id, data: { title: 'Changed', priority: 'high' } },
        { op: 'complete', id: done.id },
        { op: 'delete', id: gone.id },
        { op: 'restore', id: back.id },
      ],
    })
    expect(status).toBe(200)
    expect(body.results.map(({ index, status: each }) => [index, each])).toEqual([
      [0, 201],
      [1, 200],
      [2, 200],
      [3, 204],
      [4, 200],
    ])
    const [created, updated, completed, deleted, restored] = body.results
    expect(created!.task).toMatchObject({
      title: 'New',
      tags: ['home'],
      due_date: '2030-05-17',
      version: 1,
    })
    expect(updated!.task).toMatchObject({ title: 'Changed', priority: 'high', version: 2 })
    expect(completed!.task).toMatchObject({ completed: true, version: 2 })
    expect(deleted).toEqual({ index: 3, status: 204 })
    expect(restored!.task).toMatchObject({ title: 'Back', version: 3 })
    const { body: list, headers } = await api.request<TaskBody[]>('GET', '/api/tasks', { token })
    expect(list).toEqual([updated!.task!, completed!.task!, restored!.task!, created!.task!])
    expect(headers.get('x-total-count')).toBe('4')
  })

  test('`complete` completes by default, and reopens with `completed: false`', async () => {
    const { token } = await newUser()
    const { id } = await create(token, 'x')
    for (const [data, completed] of [
      [undefined, true],
      [{ completed: false }, false],
      [{}, true],
    ] as const) {
      const { body } = await bulk(token, {
        operations: [{ op: 'complete', id, ...(data && { data }) }],
      })
      expect(body.results[0]!.task!.completed).toBe(completed)
    }
  })

  test('every changed task has a number of its own, so that no page of changes loses one', async () => {
    const { id: user, token } = await newUser()
    const operations = Array.from({ length: 100 }, (_, index) => ({
      op: 'create',
      data: { title: `Task ${index}` },
    }))
    const { body } = await bulk(token, { operations })
    expect(body.results.map(({ task }) => task!.title)).toEqual(
      operations.map(({ data }) => data.title),
    )
    const changes = await database.query<{ change: number }>`
      select change from todo_api.tasks where user_id = ${user} order by change`
    expect(changes.map(({ change }) => change)).toEqual(operations.map((_, index) => index + 1))
    const titles: string[] = []
    let since = ''
    for (let more = true; more;) {
      const { body: page } = await api.request<{
        items: TaskBody[]
        sync_token: string
        has_more: boolean
      }>('GET', `/api/tasks/changes?limit=7${since}`, { token })
      titles.push(...page.items.map(({ title }) => title))
      since = `&since=${page.sync_token}`
      more = page.has_more
    }
    expect(titles).toEqual(operations.map(({ data }) => data.title))
  })
})

describe('a refusal', () => {
  async function refusals() {
    const [alice, bob] = [await newUser(), await newUser()]
    const [own, changed, others] = [
      await create(alice.token, 'Own'),
      await create(alice.token, 'Changed'),
      await create(bob.token, 'Not hers'),
    ]
    const operations = [
      { op: 'update', id: own.id, data: { title: 'New title' } },
      { op: 'update', id: others.id, data: { title: 'Stolen' } },
      { op: 'delete', id: 9_007_199_254_740_991 },
      { op: 'complete', id: changed.id, if_version: 7 },
      { op: 'create', data: { title: 'Another' } },
    ]
    return { alice, bob, own, changed, others, operations }
  }

  test('of one operation refuses all: nothing happens, and each is told why', async () => {
    const { alice, bob, own, changed, others, operations } = await refusals()
    const before = await rowsOf(alice.id)
    const { status, body } = await bulk(alice.token, { operations })
    expect([status, body.code]).toEqual([409, 'bulk_refused'])
    expect(body.results.map(({ index, status: each, code }) => [index, each, code])).toEqual([
      [0, 409, 'bulk_refused'],
      [1, 403, 'not_owner'],
      [2, 404, 'task_not_found'],
      [3, 412, 'version_conflict'],
      [4, 409, 'bulk_refused'],
    ])
    expect(body.results[1]!.detail).toBe('You do not own this task')
    expect(body.results[3]!.current).toEqual(changed)
    expect(await rowsOf(alice.id)).toEqual(before)
    expect((await read(alice.token, own.id)).body).toEqual(own)
    expect((await read(bob.token, others.id)).body).toEqual(others)
  })

  test('without `atomic` stands alone: the others are done', async () => {
    const { alice, bob, others, operations } = await refusals()
    const { status, body } = await bulk(alice.token, { atomic: false, operations })
    expect(status).toBe(200)
    expect(body.results.map(({ status: each, code }) => [each, code])).toEqual([
      [200, undefined],
      [403, 'not_owner'],
      [404, 'task_not_found'],
      [412, 'version_conflict'],
      [201, undefined],
    ])
    expect((await rowsOf(alice.id)).map(({ title }) => title)).toEqual([
      'New title',
      'Changed',
      'Another',
    ])
    expect((await read(bob.token, others.id)).body).toEqual(others)
  })

  test('is refused for lack of room by counting the whole batch', async () => {
    const small = startApi({ settings: { MAX_TASKS_PER_USER: '3' } })
    const { id, token } = await newUser()
    const ask = async (json: unknown) =>
      small.request<Answered>('POST', '/api/tasks/bulk', { token, json })
    const creates = [1, 2, 3].map((number) => ({ op: 'create', data: { title: `${number}` } }))
    expect((await ask({ operations: [...creates, creates[0]] })).body.code).toBe('bulk_refused')
    const { body } = await ask({ operations: creates })
    expect(body.results.map(({ status }) => status)).toEqual([201, 201, 201])
    const [first] = await rowsOf(id)
    const exchange = [
      { op: 'create', data: { title: 'In' } },
      { op: 'delete', id: first!.id },
    ]
    expect((await ask({ operations: exchange })).status).toBe(200)
    const full = await ask({
      atomic: false,
      operations: [creates[0], { op: 'complete', id: (await rowsOf(id))[0]!.id }],
    })
    expect(full.body.results.map(({ status, code }) => [status, code])).toEqual([
      [409, 'task_limit_reached'],
      [200, undefined],
    ])
    expect(await rowsOf(id)).toHaveLength(3)
    await small.stop()
  })

  test('because a rule never comes names the operation that has it', async () => {
    const { token } = await newUser()
    const { id } = await create(token, 'Tenth')
    const rule = 'FREQ=DAILY;UNTIL=20300105'
    const falls = [1, 2].map((day) => ({
      op: 'create',
      data: { title: 'x', due_date: `2030-01-0${day}`, recurrence: rule },
    }))
    const never = { op: 'create', data: { ...falls[0]!.data, due_date: '2030-01-06' } }
    const moved = { op: 'update', id, data: { due_date: '2030-01-06', recurrence: rule } }
    for (const wrong of [never, moved]) {
      const { status, body } = await bulk(token, { operations: [...falls, wrong] })
      expect([status, body.errors]).toEqual([
        422,
        [
          {
            field: 'operations.2.data.recurrence',
            detail: 'never comes on or after the due_date, where it starts',
          },
        ],
      ])
    }
  })

  test('because a rule never comes after the date of its task concerns that operation alone', async () => {
    const { token } = await newUser()
    const [{ id }, other] = [await create(token, 'Tenth'), await create(token, 'Other')]
    await api.request('PUT', `/api/tasks/${id}`, { token, json: { due_date: '2030-01-10' } })
    const operations = [
      { op: 'complete', id: other.id },
      { op: 'update', id, data: { recurrence: 'FREQ=DAILY;UNTIL=20300105' } },
    ]
    const refusal = {
      index: 1,
      status: 422,
      code: 'validation_failed',
      detail:
        'due_time, due_timezone and recurrence need a due_date, and a recurrence has to come on or after it',
    }
    const whole = await bulk(token, { operations })
    expect([whole.status, whole.body.code, whole.body.results[1]]).toEqual([
      409,
      'bulk_refused',
      refusal,
    ])
    expect((await read(token, other.id)).body).toMatchObject({ completed: false, version: 1 })
    const parts = await bulk(token, { atomic: false, operations })
    expect([parts.status, parts.body.results[0]!.status, parts.body.results[1]]).toEqual([
      200,
      200,
      refusal,
    ])
    expect((await read(token, id)).body).toMatchObject({ recurrence: null, version: 2 })
  })

  describe('because of when a task would be due', () => {
    // In UTC, this is in the year 10000.
    const tooLate = {
      due_date: '9999-12-31',
      due_time: '23:59',
      due_timezone: 'America/New_York',
    }
    // Runtimes know this zone, and PostgreSQL does not.
    const inNoZone = { ...tooLate, due_date: '2027-01-01', due_timezone: 'US/Pacific-New' }
    const outOfYears = 'must be in the years 1 to 9999 in UTC, too'
    const unknownZone = 'must be the name of a time zone, such as Europe/Paris'
    const innocent = { op: 'create', data: { title: 'x', ...tooLate, due_timezone: 'UTC' } }

    async function createLate(token: string): Promise<TaskBody> {
      const json = innocent.data
      return (await api.request<TaskBody>('POST', '/api/tasks', { token, json })).body
    }

    test('names the operation that says so itself, and no other', async () => {
      const { id: user, token } = await newUser()
      const late = await createLate(token)
      const before = await rowsOf(user)
      for (const [wrong, field, detail] of [
        [{ op: 'create', data: { title: 'x', ...tooLate } }, 'due_date', outOfYears],
        [{ op: 'update', id: late.id, data: tooLate }, 'due_date', outOfYears],
        [{ op: 'create', data: { title: 'x', ...inNoZone } }, 'due_timezone', unknownZone],
        [
          { op: 'update', id: late.id, data: { due_timezone: inNoZone.due_timezone } },
          'due_timezone',
          unknownZone,
        ],
      ] as const)
        for (const atomic of [true, false]) {
          const operations = [innocent, innocent, wrong, innocent]
          const { status, body } = await bulk(token, { atomic, operations })
          expect([status, body.errors]).toEqual([
            422,
            [{ field: `operations.2.data.${field}`, detail }],
          ])
        }
      expect(await rowsOf(user)).toEqual(before)
    })

    test('concerns that operation alone if what is stored decides', async () => {
      const { id: user, token } = await newUser()
      const [late, zoned, other] = [
        await createLate(token),
        await create(token, 'In no zone'),
        await create(token, 'Other'),
      ]
      const { due_date, due_time, due_timezone } = inNoZone
      // Without a time, nobody asks PostgreSQL about the zone.
      const json = { due_date, due_timezone }
      await api.request('PUT', `/api/tasks/${zoned.id}`, { token, json })
      const operations = [
        { op: 'update', id: other.id, data: { title: 'New title' } },
        innocent,
        { op: 'update', id: late.id, data: { due_timezone: tooLate.due_timezone } },
        { op: 'update', id: zoned.id, data: { due_time } },
      ]
      const before = await rowsOf(user)
      const whole = await bulk(token, { operations })
      const refusal = { status: 422, code: 'validation_failed' }
      expect([whole.status, whole.body.results.slice(2)]).toEqual([
        409,
        [
          { index: 2, ...refusal, detail: `due_date ${outOfYears}` },
          { index: 3, ...refusal, detail: `due_timezone ${unknownZone}` },
        ],
      ])
      expect(await rowsOf(user)).toEqual(before)
      const key = { 'idempotency-key': crypto.randomUUID() }
      const parts = await bulk(token, { atomic: false, operations }, key)
      expect([parts.status, parts.body.results.map(({ status }) => status)]).toEqual([
        200,
        [200, 201, 422, 422],
      ])
      expect(parts.body.results.slice(2)).toEqual(whole.body.results.slice(2))
      expect((await read(token, late.id)).body).toEqual(late)
      expect((await read(token, other.id)).body.title).toBe('New title')
      const again = await bulk(token, { atomic: false, operations }, key)
      expect([again.text, again.headers.get('idempotent-replayed')]).toEqual([parts.text, 'true'])
    })
  })

  test('because a time lacks a date names the field or the operation', async () => {
    const { token } = await newUser()
    const { id } = await create(token, 'No date')
    const created = await bulk(token, {
      operations: [{ op: 'create', data: { title: 'x', due_time: '09:30' } }],
    })
    expect(created.body.errors).toEqual([
      { field: 'operations.0.data.due_time', detail: 'needs a due_date' },
    ])
    const updated = await bulk(token, {
      operations: [{ op: 'update', id, data: { due_time: '09:30' } }],
    })
    expect([updated.status, updated.body.results[0]!.code]).toEqual([409, 'validation_failed'])
  })
})

describe('a request', () => {
  const malformed: [string, unknown, string][] = [
    ['without operations', {}, 'operations'],
    ['with none', { operations: [] }, 'operations'],
    ['with an object for a list', { operations: {} }, 'operations'],
    ['with one operation for a list', { operations: { op: 'delete', id: 1 } }, 'operations'],
    [
      'with 101',
      { operations: Array.from({ length: 101 }, () => ({ op: 'delete', id: 1 })) },
      'operations',
    ],
    ['with an unknown one', { operations: [{ op: 'explode', id: 1 }] }, 'operations.0.op'],
    ['with text for a list', { operations: 'x' }, 'operations'],
    ...[null, 1, 'x', [], true].map((none): [string, unknown, string] => [
      `with ${JSON.stringify(none)} for one`,
      { operations: [none] },
      'operations.0',
    ]),
    ['without an id', { operations: [{ op: 'delete' }] }, 'operations.0.id'],
    ['with an id as text', { operations: [{ op: 'delete', id: '1' }] }, 'operations.0.id'],
    [
      'with an id that is no whole number',
      { operations: [{ op: 'delete', id: 1.5 }] },
      'operations.0.id',
    ],
    [
      'with a task twice',
      {
        operations: [
          { op: 'delete', id: 1 },
          { op: 'restore', id: 1 },
        ],
      },
      'operations.1.id',
    ],
    ['with no title', { operations: [{ op: 'create', data: {} }] }, 'operations.0.data.title'],
    ['with no data', { operations: [{ op: 'create' }] }, 'operations.0.data'],
    ['with data that is a list', { operations: [{ op: 'create', data: [] }] }, 'operations.0.data'],
    [
      'with data that is text',
      { operations: [{ op: 'update', id: 1, data: 'x' }] },
      'operations.0.data',
    ],
    [
      'with nothing to change',
      { operations: [{ op: 'update', id: 1, data: { nonsense: 1 } }] },
      'operations.0.data',
    ],
    [
      'with a bad title in the fourth',
      {
        operations: [
          ...[1, 2, 3].map((id) => ({ op: 'delete', id })),
          { op: 'create', data: { title: ' ' } },
        ],
      },
      'operations.3.data.title',
    ],
    ['with atomic as text', { atomic: 'yes', operations: [{ op: 'delete', id: 1 }] }, 'atomic'],
  ]
  test.each(malformed)('%s is 422 for the whole, and nothing happens', async (_, json, field) => {
    const { id, token } = await newUser()
    const { status, body } = await bulk(token, json)
    expect([status, body.code, body.errors?.[0]?.field]).toEqual([422, 'validation_failed', field])
    expect(await rowsOf(id)).toEqual([])
  })

  test.each([
    [[], 'operations', /^must be a list of 1 to 100,/],
    ['x', 'operations', /^must be a list of 1 to 100,/],
    [[{ op: 'create', data: { title: 'x' } }, 1], 'operations.1', /^must be a JSON object$/],
  ])('is told what %j has to be', async (operations, field, detail) => {
    const { token } = await newUser()
    const { body } = await bulk(token, { operations })
    expect(body.errors).toEqual([{ field, detail: expect.stringMatching(detail) as string }])
  })

  test('has one Idempotency-Key for all: a repetition gets the same answer, and does nothing', async () => {
    const { id, token } = await newUser()
    const key = { 'idempotency-key': crypto.randomUUID() }
    const json = {
      atomic: false,
      operations: [
        { op: 'create', data: { title: 'Once' } },
        { op: 'delete', id: 9_007_199_254_740_991 },
      ],
    }
    const first = await bulk(token, json, key)
    const again = await bulk(token, json, key)
    expect([again.status, again.text, again.headers.get('idempotent-replayed')]).toEqual([
      200,
      first.text,
      'true',
    ])
    expect(first.headers.get('idempotent-replayed')).toBeNull()
    expect(await rowsOf(id)).toHaveLength(1)
    const other = await bulk(
      token,
      { operations: [{ op: 'create', data: { title: 'Other' } }] },
      key,
    )
    expect([other.status, other.body.code]).toEqual([422, 'idempotency_key_reused'])
  })

  test('has its answer kept under its key even if every operation is refused', async () => {
    const { token } = await newUser()
    const { id } = await create(token, 'In the trash')
    await api.request('DELETE', `/api/tasks/${id}`, { token })
    const key = { 'idempotency-key': crypto.randomUUID() }
    const json = { atomic: false, operations: [{ op: 'delete', id }] }
    const first = await bulk(token, json, key)
    expect(first.body.results[0]!.code).toBe('task_not_found')
    await api.request('POST', `/api/tasks/${id}/restore`, { token })
    const again = await bulk(token, json, key)
    expect([again.text, again.headers.get('idempotent-replayed')]).toEqual([first.text, 'true'])
    expect((await read(token, id)).status).toBe(200)
  })

  test('names the operation whose date is out of range', async () => {
    const { token } = await newUser()
    const { id } = await create(token, 'x')
    const data = { due_date: '9999-12-31', due_time: '23:59', due_timezone: 'America/Los_Angeles' }
    const { status, body } = await bulk(token, {
      operations: [
        { op: 'create', data: { title: 'good' } },
        { op: 'update', id, data },
      ],
    })
    expect([status, body.errors![0]!.field]).toEqual([422, 'operations.1.data.due_date'])
  })

  test('twice at once under one key is done once', async () => {
    const { id, token } = await newUser()
    await create(token, 'There is a list')
    const key = { 'idempotency-key': crypto.randomUUID() }
    const json = { operations: [{ op: 'create', data: { title: 'Once' } }] }
    const answers = await Promise.all([1, 2, 3, 4].map(async () => bulk(token, json, key)))
    expect(answers.filter(({ status }) => status !== 200 && status !== 409)).toEqual([])
    expect(await rowsOf(id)).toHaveLength(2)
  })

  test('may have 512 KiB, and not more', async () => {
    const { token } = await newUser()
    const padded = (bytes: number) => {
      const json = { operations: [{ op: 'create', data: { title: 'x' } }], padding: '' }
      json.padding = 'p'.repeat(bytes - JSON.stringify(json).length)
      return json
    }
    expect((await bulk(token, padded(512 * 1024))).status).toBe(200)
    expect((await bulk(token, padded(512 * 1024 + 1))).body).toMatchObject({
      code: 'body_too_large',
      detail: 'The body is larger than 512 KiB',
    })
  })

  test('counts as one and a tenth for each operation', async () => {
    const limited = startApi({ settings: { RATE_LIMIT_PER_USER: '5' }, now: () => 0 })
    const { token } = await newUser()
    const operations = Array.from({ length: 20 }, () => ({ op: 'create', data: { title: 'x' } }))
    const ask = async () =>
      limited.request<Answered>('POST', '/api/tasks/bulk', { token, json: { operations } })
    const first = await ask()
    expect([first.status, first.headers.get('ratelimit')]).toEqual([200, '"user";r=2;t=12'])
    const second = await ask()
    expect([second.status, second.headers.get('ratelimit')]).toEqual([429, '"user";r=1;t=24'])
    await limited.stop()
  })

  test.each([8, 60])(
    'of 100 operations is let through after Retry-After, with a quota of %d',
    async (quota) => {
      const start = Date.now()
      let time = start
      const limited = startApi({
        settings: { RATE_LIMIT_PER_USER: String(quota) },
        now: () => time,
      })
      const token = await tokenFor(crypto.randomUUID(), { exp: Math.floor(start / 1000) + 600 })
      const operations = Array.from({ length: 100 }, () => ({ op: 'create', data: { title: 'x' } }))
      const ask = async () =>
        limited.request<Answered>('POST', '/api/tasks/bulk', { token, json: { operations } })
      let answer = await ask()
      expect(answer.status).toBe(200)
      while (answer.status === 200) answer = await ask()
      // It is refused as a request first, and then as a bulk.
      for (let wait = 0; wait < 2 && answer.status === 429; wait += 1) {
        time += Number(answer.headers.get('retry-after')) * 1_000
        answer = await ask()
      }
      expect(answer.status).toBe(200)
      await limited.stop()
    },
  )

  test('answers under the user’s own path too, and to GET with 405', async () => {
    const { id, token } = await newUser()
    const json = { operations: [{ op: 'create', data: { title: 'x' } }] }
    const { status } = await api.request('POST', `/api/${id}/tasks/bulk`, { token, json })
    expect(status).toBe(200)
    const { status: wrong, headers } = await api.request('GET', '/api/tasks/bulk', { token })
    expect([wrong, headers.get('allow')]).toEqual([405, 'OPTIONS, POST'])
  })
})

test('large bodies that never end keep neither small ones waiting nor other users’ large ones', async () => {
  const slowUsers = await Promise.all(Array.from({ length: 4 }, newUser))
  const bob = await newUser()
  const json = { operations: [{ op: 'create', data: { title: 'x' } }] }
  const large = { ...json, padding: 'p'.repeat(100_000) }
  const slow = slowUsers.flatMap(({ token }) =>
    Array.from({ length: 16 }, () => {
      const socket = dial(Number(new URL(api.origin).port), '127.0.0.1')
      socket.write(
        `POST /api/tasks/bulk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${512 * 1024}\r\n\r\n{"operations"`,
      )
      return socket
    }),
  )
  const [{ token }] = slowUsers as [(typeof slowUsers)[0]]
  await eventually('a share is taken', async () => (await bulk(token, large)).status === 429)
  for (const body of [json, large]) expect((await bulk(bob.token, body)).status).toBe(200)
  expect((await bulk(token, json)).status).toBe(200)
  for (const socket of slow) socket.destroy()
  await eventually('it is free again', async () => (await bulk(token, large)).status === 200)
})
