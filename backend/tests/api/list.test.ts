import { afterAll, describe, expect, test } from 'bun:test'
import { connect as dial } from 'node:net'
import { database, newUser, startApi, type TaskBody, writeUncounted } from '../support/api.ts'

const api = startApi()
afterAll(api.stop)

type User = { id: string; token: string }

async function userWith(...tasks: object[]): Promise<User> {
  const user = await newUser()
  for (const json of tasks) {
    const { status } = await api.request('POST', '/api/tasks', { token: user.token, json })
    expect(status).toBe(201)
  }
  return user
}

const list = async ({ token }: User, query = '') =>
  api.request<TaskBody[]>('GET', `/api/tasks${query}`, { token })
const titles = async (user: User, query: string) =>
  (await list(user, query)).body.map(({ title }) => title)

describe('filters', () => {
  const tasks = [
    { title: 'a', priority: 'high', tags: ['home', 'a,b'] },
    { title: 'b', priority: 'low', tags: ['home', 'garden'], completed: true },
    { title: 'c', tags: ['work'] },
  ]
  test.each([
    ['', ['a', 'b', 'c']],
    ['?priority=high', ['a']],
    ['?priority=none', ['c']],
    ['?tag=home', ['a', 'b']],
    ['?tag=home&tag=garden', ['b']],
    ['?tag=garden&tag=home', ['b']],
    ['?tag=work&tag=home', []],
    ['?tag=home&tag=a%2Cb', ['a']],
    ['?tag=a%2Cb', ['a']],
    ['?tag=a', []],
    ['?tag=HOME', []],
    ['?status=pending&tag=home', ['a']],
    ['?completed=true', ['b']],
    ['?completed=false', ['a', 'c']],
    ['?completed=true&status=pending', ['a', 'c']],
    ['?foo=bar&user_id=7', ['a', 'b', 'c']],
    ['?priority=HIGH', ['a']],
    ['?status=Completed&priority=Low', ['b']],
    ['?sort=title&order=DESC', ['c', 'b', 'a']],
    ['?status=&priority=&tag=&q=&search=&due_from=&due_to=&overdue=&tz=', ['a', 'b', 'c']],
    ['?sort=&order=&limit=&cursor=&completed=&offset=&skip=&page=', ['a', 'b', 'c']],
    ['?tag=&tag=home&tag=', ['a', 'b']],
    ['?status=&completed=true', ['b']],
  ])('%p', async (query, expected) => {
    const user = await userWith(...tasks)
    const { body, headers } = await list(user, query)
    expect(body.map(({ title }) => title)).toEqual(expected)
    expect(headers.get('x-total-count')).toBe(String(expected.length))
    expect(headers.get('link')).toBeNull()
    expect(headers.get('vary')).toBe('Authorization, Origin')
    expect(headers.get('cache-control')).toBe('private, no-cache')
    expect(headers.get('sync-token')).toMatch(/^3\.3\.[\w-]{12}$/)
    expect(headers.get('etag')).toMatch(/^"3-[\w-]{16}"$/)
  })

  test.each([
    ['status', 'done'],
    ['priority', 'urgent'],
    ['tag', 'x'.repeat(51)],
    ['q', 'x'.repeat(201)],
    ['q', '%00'],
    ['due_from', '2026-02-30'],
    ['due_to', 'today'],
    ['overdue', 'yes'],
    ['tz', 'Mars'],
    ['tz', '+02:00'],
    ['sort', 'id'],
    ['sort', '--title'],
    ['order', 'up'],
    ['limit', '0'],
    ['limit', '501'],
    ['limit', '1e2'],
    ['limit', '-1'],
    ['limit', '050'],
    ['completed', '1'],
    ['cursor', 'x'],
    ['cursor', 'x'.repeat(2000)],
    ['tag', '%01'],
    ['q', '%7F'],
    ['tag', Array.from({ length: 21 }, (_, index) => `t${index}`).join('&tag=')],
  ])('%s=%s is refused', async (field, value) => {
    const { status, body } = await list(
      await newUser(),
      `?${field}=${/[%&]/.test(value) ? value : encodeURIComponent(value)}`,
    )
    expect(status).toBe(422)
    expect(body as unknown).toMatchObject({ code: 'validation_failed', errors: [{ field }] })
  })
})

test.each(['offset', 'skip', 'page'])(
  '%s is refused, and what to use instead is named',
  async (name) => {
    const { status, body } = await list(await newUser(), `?limit=10&${name}=20`)
    expect(status).toBe(422)
    const detail = 'must not be sent: page with cursor, from the Link header, or use /compat'
    expect(body as unknown).toMatchObject({
      detail: `${name}: ${detail}`,
      code: 'validation_failed',
      errors: [{ field: name, detail }],
    })
  },
)

describe('q', () => {
  const tasks = [
    { title: 'Grün streichen', description: 'die Wand' },
    { title: 'یہ مکمل ہے' },
    { title: '牛乳', description: '買い物リスト' },
    { title: '100% sure_thing', description: "it's (done) [x] \\ a.b*c?" },
    { title: 'Cafe\u0301 décomposé' },
    { title: 'ПРИВЕТ мир' },
    { title: 'οδός λόγος' },
    { title: 'İzmir' },
    { title: 'Straße' },
  ]
  const [grün, urdu, milk, percent, café, привет, greek, izmir, straße] = tasks.map(
    ({ title }) => title,
  )
  test.each([
    ['Grün', [grün]],
    ['grün', [grün]],
    ['GRÜN', [grün]],
    ['rü', [grün]],
    ['wand grün', [grün]],
    ['grün haus', []],
    ['مکمل', [urdu]],
    ['مکم', [urdu]],
    ['買い物', [milk]],
    ['買', [milk]],
    ['物リ', [milk]],
    ['牛乳 リスト', [milk]],
    ['café', [café]],
    ['CAFÉ', [café]],
    ['décompos', [café]],
    ['привет', [привет]],
    ['Мир', [привет]],
    ['ΛΌΓΟΣ', [greek]],
    ['λόγοσ', [greek]],
    ['izmir', [izmir]],
    ['IZMIR', [izmir]],
    ['İZMİR', [izmir]],
    ['STRASSE', [straße]],
    ['strasse', [straße]],
    ['straße', [straße]],
    ['raß', [straße]],
    ['ras', [straße]],
    ['STRAẞE', [straße]],
    ['%', [percent]],
    ['100%', [percent]],
    ['_', [percent]],
    ["'", [percent]],
    ['(done)', [percent]],
    ['[x]', [percent]],
    ['\\', [percent]],
    ['a.b', [percent]],
    ['a*b', []],
    ['aXb', []],
    ['c?', [percent]],
    ["'; drop table tasks; --", []],
    ['***=x', []],
    ['(?i)grün', []],
    ['^', []],
    ['$', []],
    ['{1}', []],
    ['.', [percent]],
    ['   ', tasks.map(({ title }) => title)],
    ['', tasks.map(({ title }) => title)],
  ])('%p', async (q, expected) => {
    const user = await userWith(...tasks)
    expect(await titles(user, `?q=${encodeURIComponent(q)}`)).toEqual(expected as string[])
    expect(await titles(user, `?search=${encodeURIComponent(q)}`)).toEqual(expected as string[])
  })

  test('a word of more letters than are looked for at once', async () => {
    const address = 'https://example.com/a/path/that-goes-on/and-on/Über/größe?q=1'
    const user = await userWith(
      { title: 'a', description: `see ${address}.` },
      { title: 'another' },
    )
    expect(await titles(user, `?q=${encodeURIComponent(address.toUpperCase())}`)).toEqual(['a'])
    expect(await titles(user, `?q=${encodeURIComponent(`${address}2`)}`)).toEqual([])
    const sentence = '한국어로쓴아주긴문장'.repeat(10)
    const korean = await userWith({ title: sentence.normalize('NFD').slice(0, 200) })
    expect(await titles(korean, `?q=${encodeURIComponent(sentence.slice(0, 60))}`)).toHaveLength(1)
  })

  // The word for language, with the marks in the order in which a keyboard gives them.
  const typed = 'الل\u0651\u064fغ\u0651\u064eة'
  const normal = typed.normalize('NFC')
  const many = `a${'\u0344'.repeat(150)}`

  test.each([
    ['as it is typed, in neither normal form', typed, typed],
    ['stored as typed, asked for in the normal form', typed, normal],
    ['stored in the normal form, asked for as typed', normal, typed],
    ['composed by half', 'ô\u0323c', 'ô\u0323c'],
    ['more marks than a regular expression counts', many, many],
  ])('a word with several marks on a letter is found: %s', async (_, title, q) => {
    const user = await userWith({ title }, { title: 'another' })
    expect(await titles(user, `?q=${encodeURIComponent(q)}`)).toEqual([title])
  })
})

describe('due', () => {
  const tasks = [
    { title: 'day', due_date: '2026-03-29' },
    { title: 'floating', due_date: '2026-03-29', due_time: '23:30' },
    { title: 'paris', due_date: '2026-03-29', due_time: '00:30', due_timezone: 'Europe/Paris' },
    {
      title: 'auckland',
      due_date: '2026-03-30',
      due_time: '08:00',
      due_timezone: 'Pacific/Auckland',
    },
    { title: 'never' },
  ]
  test.each([
    // Half past midnight in Paris is still the 28th in UTC; eight in Auckland is the 29th there.
    ['?due_from=2026-03-29&due_to=2026-03-29', ['day', 'floating', 'auckland']],
    [
      '?due_from=2026-03-29&due_to=2026-03-29&tz=Europe/Paris',
      ['day', 'floating', 'paris', 'auckland'],
    ],
    ['?due_from=2026-03-30&tz=Pacific/Auckland', ['auckland']],
    ['?due_to=2026-03-28', ['paris']],
    ['?due_to=2026-03-28&tz=America/Los_Angeles', ['paris']],
    ['?due_from=2026-03-30', []],
    ['?due_from=0001-01-01&due_to=9999-12-31', ['day', 'floating', 'paris', 'auckland']],
  ])('%p', async (query, expected) => {
    expect(await titles(await userWith(...tasks), query)).toEqual(expected)
  })

  test.each([
    ['CET', 'Europe/Paris'],
    ['met', 'Europe/Paris'],
    ['EET', 'Europe/Athens'],
    ['WET', 'Europe/Lisbon'],
    ['EST', 'America/Panama'],
    ['MST', 'America/Phoenix'],
    ['HST', 'Pacific/Honolulu'],
  ])('the days of a reader in %s are those of %s, in summer, too', async (name, same) => {
    // Midnight in summer there, in UTC.
    const midnight = Temporal.PlainDateTime.from('2026-07-02T00:00').toZonedDateTime(same)
    const user = await userWith(
      { title: 'before', due_date: midnight.subtract({ minutes: 1 }).toInstant().toString() },
      { title: 'after', due_date: midnight.toInstant().toString() },
    )
    expect(await titles(user, `?due_from=2026-07-02&tz=${name}`)).toEqual(['after'])
    expect(await titles(user, `?due_to=2026-07-01&tz=${name}`)).toEqual(['before'])
  })

  /** A date and time so many minutes from now, on a clock of that zone. */
  const fromNow = (minutes: number, zone: string) => {
    const local = Temporal.Now.zonedDateTimeISO(zone).add({ minutes })
    return {
      due_date: local.toPlainDate().toString(),
      due_time: local.toPlainTime().toString({ smallestUnit: 'minute' }),
    }
  }

  test.each(['Pacific/Kiritimati', 'Pacific/Pago_Pago', 'Europe/Paris', 'UTC'])(
    'overdue, for a reader in %s',
    async (zone) => {
      const day = (days: number) => Temporal.Now.plainDateISO(zone).add({ days }).toString()
      const user = await userWith(
        { title: 'yesterday', due_date: day(-1) },
        { title: 'today', due_date: day(0) },
        { title: 'tomorrow', due_date: day(1) },
        { title: 'just over', ...fromNow(-2, zone) },
        { title: 'soon', ...fromNow(3, zone) },
        { title: 'instant over', ...fromNow(-2, 'Asia/Tokyo'), due_timezone: 'Asia/Tokyo' },
        { title: 'instant to come', ...fromNow(3, 'Asia/Tokyo'), due_timezone: 'Asia/Tokyo' },
        { title: 'done', due_date: day(-1), completed: true },
        { title: 'never' },
      )
      expect(await titles(user, `?overdue=true&tz=${zone}`)).toEqual([
        'yesterday',
        'just over',
        'instant over',
      ])
      expect(await titles(user, `?overdue=false&tz=${zone}`)).toEqual([
        'today',
        'tomorrow',
        'soon',
        'instant to come',
        'done',
        'never',
      ])
    },
  )

  test('what becomes overdue by itself is not hidden by an ETag', async () => {
    const user = await userWith({ title: 'soon', due_date: '2026-03-29' })
    const before = await list(user, '?overdue=false')
    const tag = before.headers.get('etag')!
    const again = async () =>
      api.request('GET', '/api/tasks?overdue=false', {
        token: user.token,
        headers: { 'if-none-match': tag },
      })
    expect(before.body).toEqual([])
    expect((await again()).status).toBe(304)
    // Time passes: the row is moved past its date without a change that the counter would tell.
    await writeUncounted(
      `update todo_api.tasks set due_date = due_date + 100000 where user_id = '${user.id}'`,
    )
    expect((await again()).status).toBe(200)
  })
})

describe('order', () => {
  const tasks = [
    { title: 'banana', priority: 'low', due_date: '2026-03-02' },
    { title: 'Apple', priority: 'high' },
    { title: 'cherry', priority: 'medium', due_date: '2026-03-01', due_time: '09:00' },
    { title: 'apple pie', due_date: '2026-03-01' },
    { title: 'Date', due_date: '2026-03-01', due_time: '08:00' },
  ]
  test.each([
    ['', ['banana', 'Apple', 'cherry', 'apple pie', 'Date']],
    ['?sort=created', ['banana', 'Apple', 'cherry', 'apple pie', 'Date']],
    ['?sort=-created', ['Date', 'apple pie', 'cherry', 'Apple', 'banana']],
    ['?sort=created_at&order=desc', ['Date', 'apple pie', 'cherry', 'Apple', 'banana']],
    ['?sort=-created_at&order=asc', ['banana', 'Apple', 'cherry', 'apple pie', 'Date']],
    ['?sort=title', ['Apple', 'apple pie', 'banana', 'cherry', 'Date']],
    ['?sort=-title', ['Date', 'cherry', 'banana', 'apple pie', 'Apple']],
    ['?sort=due_date', ['Date', 'cherry', 'apple pie', 'banana', 'Apple']],
    ['?sort=-due_date', ['banana', 'apple pie', 'cherry', 'Date', 'Apple']],
    ['?sort=priority', ['apple pie', 'Date', 'banana', 'cherry', 'Apple']],
    ['?sort=-priority', ['Apple', 'cherry', 'banana', 'Date', 'apple pie']],
  ])('%p', async (query, expected) => {
    expect(await titles(await userWith(...tasks), query)).toEqual(expected)
  })

  test('by the last change', async () => {
    const user = await userWith({ title: 'a' }, { title: 'b' }, { title: 'c' })
    const { body } = await list(user)
    await api.request('PATCH', `/api/tasks/${body[0]!.id}/complete`, { token: user.token })
    expect(await titles(user, '?sort=updated')).toEqual(['b', 'c', 'a'])
    expect(await titles(user, '?sort=-updated_at')).toEqual(['a', 'c', 'b'])
  })
})

const nextOf = (link: string | null) => /^<([^>]+)>; rel="next"$/.exec(link ?? '')?.[1]

/** All pages of a list, with something done between each and the next. */
async function walk(
  user: User,
  query: string,
  between: (page: number) => Promise<unknown> = async () => {},
) {
  const pages: TaskBody[][] = []
  let next: string | undefined = `/api/tasks${query}`
  while (next !== undefined) {
    const { status, body, headers } = await api.request<TaskBody[]>('GET', next, user)
    expect(status).toBe(200)
    pages.push(body)
    await between(pages.length)
    next = nextOf(headers.get('link'))
  }
  return pages
}

describe('pages', () => {
  test('limit cuts the list, Link leads on, and the total stays the same', async () => {
    const user = await userWith(
      ...Array.from({ length: 7 }, (_, index) => ({ title: `Task ${index}` })),
    )
    const first = await list(user, '?limit=3&foo=bar')
    expect(first.body.map(({ title }) => title)).toEqual(['Task 0', 'Task 1', 'Task 2'])
    expect(first.headers.get('x-total-count')).toBe('7')
    const next = nextOf(first.headers.get('link'))!
    expect(next).toStartWith('/api/tasks?limit=3&foo=bar&cursor=')
    const second = await api.request<TaskBody[]>('GET', next, user)
    expect(second.body.map(({ title }) => title)).toEqual(['Task 3', 'Task 4', 'Task 5'])
    expect(second.headers.get('x-total-count')).toBe('7')
    expect(second.headers.get('etag')).not.toBe(first.headers.get('etag'))
    expect((await walk(user, '?limit=3')).map(({ length }) => length)).toEqual([3, 3, 1])
    expect((await walk(user, '?limit=7')).map(({ length }) => length)).toEqual([7])
    expect((await walk(user, '?limit=1')).map(({ length }) => length)).toEqual([
      1, 1, 1, 1, 1, 1, 1,
    ])
    const rest = await list(
      user,
      `?cursor=${encodeURIComponent(new URLSearchParams(next.split('?')[1]).get('cursor')!)}`,
    )
    expect(rest.body).toHaveLength(4)
    expect((await list(await newUser(), '?limit=5')).body).toEqual([])
  })

  test.each(['x:99999', 'a/b', ''])(
    'a Host header that is no host (%p) does not matter',
    async (host) => {
      const user = await userWith({ title: 'a' }, { title: 'b' })
      const socket = dial(Number(new URL(api.origin).port), '127.0.0.1')
      socket.write(
        `GET /api/tasks?limit=1 HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${user.token}\r\nConnection: close\r\n\r\n`,
      )
      let text = ''
      for await (const bytes of socket) text += String(bytes)
      expect(text).not.toContain(' 500 ')
      if (host === 'x:99999') expect(text).toMatch(/link: <\/api\/tasks\?limit=1&cursor=/i)
    },
  )

  test('Link stays on the path that was asked', async () => {
    const user = await userWith({ title: 'a' }, { title: 'b' })
    const { headers } = await api.request('GET', `/api/${user.id}/tasks?limit=1`, user)
    expect(nextOf(headers.get('link'))).toStartWith(`/api/${user.id}/tasks?limit=1&cursor=`)
  })

  const sorts = ['created', 'updated', 'title', 'due_date', 'priority'].flatMap((key) => [
    key,
    `-${key}`,
  ])
  test.each(sorts)(
    'sort=%s: others insert, delete and edit, and what stays is shown exactly once',
    async (sort) => {
      const user = await userWith(
        ...Array.from({ length: 40 }, (_, index) => ({
          title: ['same', 'Same', `task ${index % 7}`][index % 3]!,
          priority: ['none', 'low', 'medium', 'high'][index % 4],
          ...(index % 3 !== 0 && { due_date: `2026-03-0${1 + (index % 5)}` }),
          ...(index % 6 === 1 && { due_time: '09:30' }),
          tags: ['kept'],
        })),
      )
      const { body: all } = await list(user)
      const doomed = all.filter((_, index) => index % 5 === 0)
      const edited = all.filter((_, index) => index % 5 === 1)
      const pages = await walk(user, `?limit=6&sort=${sort}&tag=kept`, async (page) => {
        const { token } = user
        const [victim, changed] = [doomed[page - 1], edited[page - 1]]
        if (victim) await api.request('DELETE', `/api/tasks/${victim.id}`, { token })
        // Only fields that the list is not sorted by, or the task would move and be shown at its new position.
        if (changed && !sort.endsWith('updated'))
          await api.request('PATCH', `/api/tasks/${changed.id}`, {
            token,
            json: { description: 'edited' },
          })
        for (const title of ['a new first', 'zz new last'])
          await api.request('POST', '/api/tasks', {
            token,
            json: { title, tags: ['kept'], due_date: title.startsWith('a') ? '2026-01-01' : null },
          })
      })
      const seen = pages.flat().map(({ id }) => id)
      expect(new Set(seen).size).toBe(seen.length)
      const stayed = all.filter(
        ({ id }) => !doomed.slice(0, pages.length).some((victim) => victim.id === id),
      )
      expect(stayed.filter(({ id }) => !seen.includes(id))).toEqual([])
      // Those that were shown are in the order of the whole list.
      const whole = (await list(user, `?sort=${sort}&tag=kept`)).body.map(({ id }) => id)
      const still = seen.filter((id) => whole.includes(id))
      expect(still).toEqual(whole.filter((id) => still.includes(id)))
    },
  )

  test('a cursor that was tampered with, or is from another query or user, is refused', async () => {
    const user = await userWith(
      ...Array.from({ length: 5 }, (_, index) => ({ title: `Task ${index}` })),
    )
    const cursor = new URLSearchParams(
      nextOf((await list(user, '?limit=2')).headers.get('link'))!.split('?')[1],
    ).get('cursor')!
    expect((await list(user, `?limit=3&cursor=${cursor}`)).status).toBe(200)
    const other = await userWith({ title: 'x' }, { title: 'y' }, { title: 'z' })
    const flipped = cursor.replace(/^./, (letter) => (letter === 'e' ? 'f' : 'e'))
    const attempts: [User, string][] = [
      [user, `?limit=2&cursor=${flipped}`],
      [user, `?limit=2&cursor=${cursor.slice(0, -1)}`],
      [user, `?limit=2&cursor=${cursor}x`],
      [user, `?limit=2&cursor=${cursor.split('.')[0]}`],
      [user, `?limit=2&cursor=${cursor}&sort=title`],
      [user, `?limit=2&cursor=${cursor}&sort=-created`],
      [user, `?limit=2&cursor=${cursor}&status=pending`],
      [user, `?limit=2&cursor=${cursor}&q=x`],
      [user, `?limit=2&cursor=${cursor}&tag=x`],
      [other, `?limit=2&cursor=${cursor}`],
    ]
    for (const [asker, query] of attempts) {
      const { status, body } = await list(asker, query)
      expect([query, status]).toEqual([query, 422])
      expect(body as unknown).toMatchObject({
        code: 'validation_failed',
        errors: [
          { field: 'cursor', detail: 'must be one from the Link header of this very query' },
        ],
      })
    }
  })
})

describe('a cursor that somebody made up', () => {
  // As the server would have bound it: nothing in the digest is secret.
  const bind = (owner: string, by: string, text: string) => {
    const filter = { status: 'all', tags: [], words: [], timeZone: 'UTC' }
    const bound = JSON.stringify([owner, filter, { by, descending: false }, text])
    const check = new Bun.CryptoHasher('sha256').update(bound).digest('base64url').slice(0, 16)
    return `${text}.${check}`
  }
  const base64 = (text: string | Uint8Array) => Buffer.from(text).toString('base64url')
  const instant = base64('2026-01-01T00:00:00.000000Z')

  test.each([
    ['created', ''],
    ['created', '.'],
    ['created', '1.'],
    ['created', base64('null')],
    ['created', base64('{}')],
    ['created', base64('{"key":{},"id":[]}')],
    ['created', base64('{"key":"now","id":1.5}')],
    ['created', `0.${instant}`],
    ['created', `9999999999999999.${instant}`],
    ['created', `1.${base64('now')}`],
    ['created', `1.${base64('2026-02-30T00:00:00.000000Z')}`],
    ['updated', `1.${base64('2026-01-01T25:00:00.000000Z')}`],
    ['title', `1.${base64('a\0b')}`],
    ['title', `1.${base64(new Uint8Array([0xc3, 0x28]))}`],
    ['title', `1.${base64(new Uint8Array([0xed, 0xa0, 0x80]))}`],
    ['due_date', `1.${base64('today')}`],
    ['due_date', `1.${base64('99999-99-99T99:99:99')}`],
    ['priority', `1.${base64('urgent')}`],
  ])('sort=%s: %p is refused', async (by, text) => {
    const user = await userWith({ title: 'a' }, { title: 'b' })
    const cursor = bind(user.id, by, text)
    const { status, body } = await list(user, `?limit=1&sort=${by}&cursor=${cursor}`)
    expect(status).toBe(422)
    expect(body as unknown).toMatchObject({ errors: [{ field: 'cursor' }] })
  })

  test('is read like one of the server’s own if it could be one', async () => {
    const user = await userWith({ title: 'a' }, { title: 'b' })
    const cursor = bind(user.id, 'title', `1.${base64('a!')}`)
    expect(await titles(user, `?sort=title&cursor=${cursor}`)).toEqual(['b'])
  })
})

test.each([
  ['four bytes a character', '😀'.repeat(198)],
  ['what JSON escapes', '"\\'.repeat(99)],
  // Such values are no longer accepted, but rows from before may have them.
  ['control characters', '\u0001'.repeat(198)],
])('the longest titles are paged through: %s', async (_, start) => {
  const user = await newUser()
  const wanted = ['a', 'b', 'c'].map((end) => `${start}.${end}`)
  await database.query`
    with list as (
      insert into todo_api.task_lists (user_id, counter, task_count) values (${user.id}, 3, 3) returning user_id
    )
    insert into todo_api.tasks (user_id, title, change)
    select user_id, title, change
    from list, json_array_elements_text(${JSON.stringify(wanted)}::text::json) with ordinality as given (title, change)`
  const pages = await walk(user, '?limit=1&sort=title')
  expect(pages.flat().map(({ title }) => title)).toEqual(wanted)
})

test('a list without parameters has no cap', async () => {
  const user = await newUser()
  await database.query`
    with list as (
      insert into todo_api.task_lists (user_id, counter, task_count) values (${user.id}, 3000, 3000) returning counter
    )
    insert into todo_api.tasks (user_id, title, change)
    select ${user.id}, 'Task ' || n, n from list, generate_series(1, counter) n`
  const { body, headers } = await list(user)
  expect(body).toHaveLength(3000)
  expect(headers.get('x-total-count')).toBe('3000')
})

describe('a page that was read before', () => {
  const other = startApi()
  afterAll(other.stop)

  test.each(['', '?limit=1', '?status=pending', '?q=a'])(
    'is as new as the first, whichever server wrote in between: %p',
    async (query) => {
      const user = await userWith({ title: 'a' }, { title: 'ab' })
      const [first, again] = [await list(user, query), await list(user, query)]
      expect(again.text).toBe(first.text)
      for (const name of ['etag', 'link', 'x-total-count', 'sync-token'])
        expect(again.headers.get(name)).toBe(first.headers.get(name))
      const { id } = first.body[0]!
      const json = { title: 'abc' }
      const changed = await other.request('PUT', `/api/tasks/${id}`, { token: user.token, json })
      const after = await list(user, query)
      expect(after.body[0]).toEqual(changed.body as TaskBody)
      expect(after.headers.get('etag')).not.toBe(first.headers.get('etag'))
      await other.request('DELETE', `/api/tasks/${id}`, { token: user.token })
      const last = await list(user, query)
      expect(last.body.map(({ title }) => title)).toEqual(['ab'])
      expect(last.headers.get('x-total-count')).toBe('1')
    },
  )

  test('is nobody else’s', async () => {
    const [one, another] = [await userWith({ title: 'mine' }), await userWith({ title: 'yours' })]
    await list(one)
    expect(await titles(another, '')).toEqual(['yours'])
    expect(await titles(one, '')).toEqual(['mine'])
  })
})
