import { afterAll, describe, expect, test } from 'bun:test'
import { database, newUser, rowsOf, startApi, type TaskBody } from '../support/api.ts'

const api = startApi()
afterAll(api.stop)

const title = 'Due'

/** Zones of one word, which are the ones that an abbreviation could be taken for. */
const oldNames =
  'CET CST6CDT Cuba EET EST EST5EDT Egypt Eire GB GB-Eire GMT GMT+0 GMT-0 GMT0 Greenwich HST Hongkong Iceland Iran Israel Jamaica Japan Kwajalein Libya MET MST MST7MDT NZ NZ-CHAT Navajo PRC PST8PDT Poland Portugal ROC ROK Singapore Turkey UCT UTC Universal W-SU WET Zulu'.split(
    ' ',
  )

async function create(json: object) {
  const { id, token } = await newUser()
  const answer = await api.request<TaskBody>('POST', '/api/tasks', {
    token,
    json: { title, ...json },
  })
  return { user: id, token, answer, task: answer.body }
}

describe('the instant of a due date', () => {
  test.each([
    ['a date alone has none', '2026-03-01', null, null, null],
    ['a floating time has none', '2026-03-01', '09:30', null, null],
    ['all day in a zone has none', '2026-03-01', null, 'Europe/Paris', null],
    ['winter in Paris', '2026-03-01', '09:30', 'Europe/Paris', '2026-03-01T08:30:00.000Z'],
    ['summer in Paris', '2026-07-01', '09:30', 'Europe/Paris', '2026-07-01T07:30:00.000Z'],
    ['far east', '2026-03-01', '00:00', 'Pacific/Kiritimati', '2026-02-28T10:00:00.000Z'],
    ['far west', '2026-03-01', '23:59', 'Pacific/Pago_Pago', '2026-03-02T10:59:00.000Z'],
    ['a quarter of an hour', '2026-03-01', '12:00', 'Asia/Kathmandu', '2026-03-01T06:15:00.000Z'],
    ['UTC', '2026-02-28', '23:59', 'UTC', '2026-02-28T23:59:00.000Z'],
    ['a leap day', '2028-02-29', '12:00', 'UTC', '2028-02-29T12:00:00.000Z'],
    // Clocks go forward: 02:30 does not exist and moves to 03:30.
    ['the gap in Paris', '2026-03-29', '02:30', 'Europe/Paris', '2026-03-29T01:30:00.000Z'],
    ['the gap in New York', '2026-03-08', '02:00', 'America/New_York', '2026-03-08T07:00:00.000Z'],
    [
      'a gap of half an hour',
      '2026-10-04',
      '02:15',
      'Australia/Lord_Howe',
      '2026-10-03T15:45:00.000Z',
    ],
    // Clocks go back: of the two it is the first.
    ['twice in Paris', '2026-10-25', '02:30', 'Europe/Paris', '2026-10-25T00:30:00.000Z'],
    [
      'the end of twice in Paris',
      '2026-10-25',
      '03:00',
      'Europe/Paris',
      '2026-10-25T02:00:00.000Z',
    ],
    ['twice in New York', '2026-11-01', '01:59', 'America/New_York', '2026-11-01T05:59:00.000Z'],
    [
      'twice on Lord Howe',
      '2026-04-05',
      '01:45',
      'Australia/Lord_Howe',
      '2026-04-04T14:45:00.000Z',
    ],
  ])('%s', async (_, due_date, due_time, due_timezone, due_at) => {
    const { answer, task } = await create({ due_date, due_time, due_timezone })
    expect(answer.status).toBe(201)
    expect(task).toMatchObject({ due_date, due_time, due_timezone, due_at })
  })

  test.each([
    // PostgreSQL takes these for abbreviations, without summer time.
    ['CET', '2026-07-01', '2026-07-01T07:30:00.000Z'],
    ['CET', '2026-01-01', '2026-01-01T08:30:00.000Z'],
    ['cet', '2026-07-01', '2026-07-01T07:30:00.000Z'],
    ['MET', '2026-07-01', '2026-07-01T07:30:00.000Z'],
    ['EET', '2026-07-01', '2026-07-01T06:30:00.000Z'],
    ['EET', '2026-01-01', '2026-01-01T07:30:00.000Z'],
    ['WET', '2026-07-01', '2026-07-01T08:30:00.000Z'],
    ['WET', '2026-01-01', '2026-01-01T09:30:00.000Z'],
    ['EST', '2026-07-01', '2026-07-01T14:30:00.000Z'],
    ['MST', '2026-07-01', '2026-07-01T16:30:00.000Z'],
    ['HST', '2026-07-01', '2026-07-01T19:30:00.000Z'],
    ['EST5EDT', '2026-07-01', '2026-07-01T13:30:00.000Z'],
    ['GMT', '2026-07-01', '2026-07-01T09:30:00.000Z'],
    ['Zulu', '2026-07-01', '2026-07-01T09:30:00.000Z'],
  ])('%s on %s, and the row keeps its name', async (due_timezone, due_date, due_at) => {
    const { task } = await create({ due_date, due_time: '09:30', due_timezone })
    expect(task).toMatchObject({ due_timezone, due_at })
  })

  test('every zone of one word is what the runtime takes it for, summer and winter', async () => {
    for (const day of ['2026-01-15', '2026-07-15']) {
      const rows = await database.query<{ zone: string; at: number }>`
        select zone, extract(epoch from todo_api.first_instant((${day}::text || ' 12:00')::timestamp, zone))::bigint as at
        from json_array_elements_text(${JSON.stringify(oldNames)}::text::json) as zone
        where todo_api.zone_name(zone) <> zone or exists (select from pg_timezone_names where name = zone)`
      const wrong = rows.filter(({ zone, at }) => {
        const local = Temporal.PlainDateTime.from(`${day}T12:00`).toZonedDateTime(zone)
        return local.epochMilliseconds !== at * 1000
      })
      expect(wrong).toEqual([])
    }
  })

  test('it follows every change of its parts', async () => {
    const { token, task } = await create({
      due_date: '2026-03-01',
      due_time: '09:30',
      due_timezone: 'Europe/Paris',
    })
    const patch = async (json: object) =>
      (await api.request<TaskBody>('PATCH', `/api/tasks/${task.id}`, { token, json })).body
    expect(await patch({ due_time: '10:30' })).toMatchObject({ due_at: '2026-03-01T09:30:00.000Z' })
    expect(await patch({ due_timezone: 'UTC' })).toMatchObject({
      due_at: '2026-03-01T10:30:00.000Z',
    })
    expect(await patch({ due_date: '2026-03-02' })).toMatchObject({
      due_at: '2026-03-02T10:30:00.000Z',
    })
    expect(await patch({ due_time: null })).toMatchObject({ due_at: null, due_date: '2026-03-02' })
    expect(await patch({ due_at: '2020-01-01T00:00:00Z', title: 'x' })).toMatchObject({
      due_at: null,
    })
  })
})

describe('an instant as due_date', () => {
  test.each([
    ['2026-03-01T09:30:00Z', '2026-03-01', '09:30'],
    ['2026-03-01T09:30:59.999Z', '2026-03-01', '09:30'],
    ['2026-03-01T00:30:00+02:00', '2026-02-28', '22:30'],
    ['2026-03-01t09:30:00z', '2026-03-01', '09:30'],
  ])('%s sets date, time and UTC', async (due_date, date, time) => {
    const { task } = await create({ due_date })
    expect(task).toMatchObject({
      due_date: date,
      due_time: time,
      due_timezone: 'UTC',
      due_at: `${date}T${time}:00.000Z`,
    })
  })

  test('null afterwards clears all three', async () => {
    const { token, task } = await create({ due_date: '2026-03-01T09:30:00Z' })
    const { body } = await api.request('PUT', `/api/tasks/${task.id}`, {
      token,
      json: { due_date: null },
    })
    expect(body).toMatchObject({ due_date: null, due_time: null, due_timezone: null, due_at: null })
  })
})

describe('what is refused', () => {
  const dateRule = 'must be a date that exists, as YYYY-MM-DD, or an RFC 3339 instant or null'
  const zoneRule = 'must be the name of a time zone, such as Europe/Paris or null'
  const timeRule = 'must be a time of day, as HH:MM or null'
  const refused: [string, unknown, string, string][] = [
    ...[
      '2026-02-30',
      '2026-13-01',
      '2026-00-10',
      '2026-1-1',
      '0000-01-01',
      '10000-01-01',
      '-2026-01-01',
      '01/02/2026',
      'tomorrow',
      '',
      '2026-03-01T09:30',
      '2026-03-01T25:00:00Z',
      '2026-02-30T00:00:00Z',
      '2026-03-01T09:30:00',
      '2026-03-01 09:30',
      5,
      true,
      ['2026-03-01'],
      '9999-12-31T23:59:59-01:00',
      '0001-01-01T00:00:00+01:00',
    ].map((value): [string, unknown, string, string] => ['due_date', value, 'due_date', dateRule]),
    ...['24:00', '9:30', '09:60', '09:30:00', '0930', 'noon', '', 930].map(
      (value): [string, unknown, string, string] => ['due_time', value, 'due_time', timeRule],
    ),
    ...[
      'Mars/Olympus',
      '+02:00',
      'UTC+2',
      '',
      'Europe/Paris\0',
      '../etc/passwd',
      'x'.repeat(300),
      "UTC'--",
      5,
    ].map((value): [string, unknown, string, string] => [
      'due_timezone',
      value,
      'due_timezone',
      zoneRule,
    ]),
    ...['urgent', 'HIGH', '', null, 1].map((value): [string, unknown, string, string] => [
      'priority',
      value,
      'priority',
      'must be one of none, low, medium, high',
    ]),
  ]
  test.each(refused)('%s: %p', async (name, value, field, detail) => {
    const { user, answer } = await create({ due_date: '2026-03-01', [name]: value })
    expect(answer.status).toBe(422)
    expect(answer.body as unknown).toMatchObject({
      code: 'validation_failed',
      errors: [{ field, detail }],
    })
    expect(await rowsOf(user)).toEqual([])
  })

  const tagRule =
    'must be a list of up to 20 distinct ones, each text of 1 to 50 characters, without control characters (but tab, line feed, carriage return) and lone surrogates'
  test.each([
    ['not a list', 'home', 'tags', tagRule],
    ['null', null, 'tags', tagRule],
    ['twice the same', ['a', 'b', 'a'], 'tags', tagRule],
    ['21', Array.from({ length: 21 }, (_, index) => `t${index}`), 'tags', tagRule],
    [
      'an empty one',
      ['a', ''],
      'tags.1',
      'must be text of 1 to 50 characters, without control characters (but tab, line feed, carriage return) and lone surrogates',
    ],
    [
      'one of 51',
      ['x'.repeat(51)],
      'tags.0',
      'must be text of 1 to 50 characters, without control characters (but tab, line feed, carriage return) and lone surrogates',
    ],
    [
      'a NUL',
      ['a\0'],
      'tags.0',
      'must be text of 1 to 50 characters, without control characters (but tab, line feed, carriage return) and lone surrogates',
    ],
    [
      'a control character',
      ['a\u0001'],
      'tags.0',
      'must be text of 1 to 50 characters, without control characters (but tab, line feed, carriage return) and lone surrogates',
    ],
    [
      'a number',
      [1],
      'tags.0',
      'must be text of 1 to 50 characters, without control characters (but tab, line feed, carriage return) and lone surrogates',
    ],
  ])('tags: %s', async (_, tags, field, detail) => {
    const { user, answer } = await create({ tags })
    expect(answer.status).toBe(422)
    expect(answer.body as unknown).toMatchObject({ errors: [{ field, detail }] })
    expect(await rowsOf(user)).toEqual([])
  })

  test.each(['due_time', 'due_timezone'])('%s without a date, now or by and by', async (field) => {
    const value = field === 'due_time' ? '09:30' : 'Europe/Paris'
    const errors = [{ field, detail: 'needs a due_date' }]
    const { user, token, answer } = await create({ [field]: value })
    expect(answer.status).toBe(422)
    expect(answer.body as unknown).toMatchObject({ code: 'validation_failed', errors })
    const { body: task } = await api.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title },
    })
    const before = await rowsOf(user)
    const later = await api.request('PATCH', `/api/tasks/${task.id}`, {
      token,
      json: { [field]: value },
    })
    expect(later.status).toBe(422)
    expect(later.body).toMatchObject({ code: 'validation_failed', errors })
    expect(await rowsOf(user)).toEqual(before)
  })
})

test.each([
  ['0001-01-01', '00:00', 'Asia/Tokyo'],
  ['9999-12-31', '23:59', 'America/Los_Angeles'],
])(
  '%s %s in %s is no instant that RFC 3339 can write',
  async (due_date, due_time, due_timezone) => {
    const { user, answer } = await create({ due_date, due_time, due_timezone })
    expect(answer.status).toBe(422)
    expect(answer.body as unknown).toMatchObject({
      errors: [{ field: 'due_date', detail: 'must be in the years 1 to 9999 in UTC, too' }],
    })
    expect(await rowsOf(user)).toEqual([])
  },
)

test('tags come back as they are, in their order', async () => {
  const tags = ['z', 'ä"\\', '{a,b}', 'NULL', ' spaced ', '🏠', "it's", 'a'.repeat(50)]
  const { task } = await create({ tags })
  expect(task.tags).toEqual(tags)
})

test('completed_at is when it was completed, until it is reopened', async () => {
  const { token, task } = await create({ completed: true })
  expect(task.completed_at).toBe(task.created_at)
  const change = async (json: object) =>
    (await api.request<TaskBody>('PATCH', `/api/tasks/${task.id}`, { token, json })).body
  expect(await change({ completed: true, title: 'Still' })).toMatchObject({
    completed_at: task.completed_at,
  })
  expect(await change({ completed: false })).toMatchObject({ completed_at: null })
  const again = await change({ completed: true })
  expect(Date.parse(again.completed_at!)).toBeGreaterThan(Date.parse(task.completed_at!))
})
