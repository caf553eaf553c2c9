import { afterAll, describe, expect, test } from 'bun:test'
import {
  database,
  databaseThat,
  newUser,
  rowsOf,
  startApi,
  tokenFor,
  type Answer,
  type TaskBody,
} from '../support/api.ts'
import { Fragment } from '../../db/sql.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents } from '../support/events.ts'
import { everythingOf } from '../support/rows.ts'
import { purge } from '../../tasks/purge.ts'

const api = startApi()
/** Another process on the same database. */
const elsewhere = startApi()
afterAll(async () => {
  await Promise.all([api.stop(), elsewhere.stop()])
})

type Made = { id: number; name: string; scope: string; key: string; start: string } & Times
type Listed = Omit<Made, 'key'> & { last_used_at: string | null }
type Times = { created_at: string; expires_at: string | null }

const json = (scope: string, more: object = {}) => ({ name: 'cron', scope, ...more })

/** @returns the key as a bearer of its own */
async function makeKey(token: string, scope = 'write', more: object = {}) {
  const { body } = await api.request<Made>('POST', '/api/keys', { token, json: json(scope, more) })
  return { id: body.id, token: body.key }
}

async function listKeys(token: string): Promise<Listed[]> {
  return (await api.request<Listed[]>('GET', '/api/keys', { token })).body
}

function expectInsufficient({ status, body, headers }: Answer, scope: string): void {
  expect([status, body]).toMatchObject([403, { code: 'insufficient_scope' }])
  expect(headers.get('www-authenticate')).toBe(
    `Bearer error="insufficient_scope", scope="${scope}"`,
  )
}

const days = (from: string, to: string | null) =>
  (Date.parse(to ?? '') - Date.parse(from)) / 86_400_000

describe('making keys', () => {
  test('a key is shown once, and only its digest is kept', async () => {
    const { id, token } = await newUser()
    const given = { name: '  My agent  ', scope: 'write' }
    const made = await api.request<Made>('POST', '/api/keys', { token, json: given })
    expect(made.status).toBe(201)
    expect(made.headers.get('cache-control')).toContain('no-store')
    const { key, ...shown } = made.body
    expect(key).toMatch(/^todo_[A-Za-z0-9_-]{43}$/)
    expect(Object.keys(made.body)).toEqual([
      'id',
      'name',
      'scope',
      'key',
      'start',
      'created_at',
      'expires_at',
    ])
    expect(shown).toMatchObject({ name: 'My agent', scope: 'write', start: key.slice(0, 9) })
    expect(days(shown.created_at, shown.expires_at)).toBe(90)

    const listed = await api.request<Listed[]>('GET', '/api/keys', { token })
    expect(listed.body).toEqual([{ ...shown, last_used_at: null }])
    const [row] = await database.query<{ row: string; hash: string }>`
      select personal_keys::text as row, hash from todo_api.personal_keys where user_id = ${id}`
    expect(row!.row).not.toContain(key.slice(10))
    expect(row!.hash).toBe(new Bun.CryptoHasher('sha256').update(key).digest('base64url'))
  })

  test.each([
    [1, 1],
    [366, 366],
    [undefined, 90],
    [null, NaN],
  ])('expires_in_days %p is %p days', async (given, expected) => {
    const { token } = await newUser()
    const body = json('read', { expires_in_days: given })
    const made = await api.request<Made>('POST', '/api/keys', { token, json: body })
    expect(days(made.body.created_at, made.body.expires_at)).toBe(expected)
  })

  test.each([
    ['name', { scope: 'read' }],
    ['name', { name: ' ', scope: 'read' }],
    ['name', { name: 'x'.repeat(101), scope: 'read' }],
    ['name', { name: 'x\0', scope: 'read' }],
    ['scope', { name: 'x' }],
    ['scope', { name: 'x', scope: 'admin' }],
    ['expires_in_days', { name: 'x', scope: 'read', expires_in_days: 0 }],
    ['expires_in_days', { name: 'x', scope: 'read', expires_in_days: 367 }],
    ['expires_in_days', { name: 'x', scope: 'read', expires_in_days: 1.5 }],
    ['expires_in_days', { name: 'x', scope: 'read', expires_in_days: '30' }],
  ])('%s in %j is refused', async (field, body) => {
    const { token } = await newUser()
    const answer = await api.request('POST', '/api/keys', { token, json: body })
    expect(answer.status).toBe(422)
    expect(answer.body).toMatchObject({ code: 'validation_failed', errors: [{ field }] })
    expect(await listKeys(token)).toEqual([])
  })

  test('nobody has more than 20, however many are asked for at once', async () => {
    const { token } = await newUser()
    const asked = { token, json: json('read') }
    const answers = await Promise.all(
      Array.from({ length: 30 }, async (_, index) =>
        (index % 2 ? api : elsewhere).request<{ code?: string }>('POST', '/api/keys', asked),
      ),
    )
    const refused = answers.filter(({ status }) => status !== 201)
    expect(refused.map(({ status, body }) => [status, body.code])).toEqual(
      Array.from({ length: 10 }, () => [409, 'key_limit_reached']),
    )
    const keys = await listKeys(token)
    expect(keys).toHaveLength(20)
    const ids = keys.map(({ id }) => id)
    expect(ids).toEqual(ids.toSorted((one, other) => one - other))
    await api.request('DELETE', `/api/keys/${ids[7]}`, { token })
    expect((await api.request('POST', '/api/keys', asked)).status).toBe(201)
  })

  test('an Idempotency-Key makes no difference: the answer is a secret and is not kept', async () => {
    const { token } = await newUser()
    const asked = { token, json: json('read'), headers: { 'idempotency-key': 'same' } }
    const [one, other] = [
      await api.request<Made>('POST', '/api/keys', asked),
      await api.request<Made>('POST', '/api/keys', asked),
    ]
    expect(one.body.key).not.toBe(other.body.key)
    expect(other.headers.has('idempotent-replayed')).toBe(false)
  })
})

describe('a key', () => {
  test('opens its user’s tasks wherever a token does, and nobody else’s', async () => {
    const [alice, bob] = [await newUser(), await newUser()]
    const key = await makeKey(alice.token)
    const created = await api.request<TaskBody>('POST', '/api/tasks', {
      ...key,
      json: { title: 'Buy milk' },
    })
    expect(created.status).toBe(201)
    expect(await rowsOf(alice.id)).toMatchObject([{ title: 'Buy milk' }])
    const { id } = created.body
    for (const path of [
      '/api/tasks',
      `/api/tasks/${id}`,
      `/api/${alice.id}/tasks`,
      '/api/tasks/changes',
      '/compat/tasks/tasks',
    ]) {
      const answer = await elsewhere.request('GET', path, key)
      expect([path, answer.status]).toEqual([path, 200])
      expect(answer.text).toContain('Buy milk')
    }
    const operations = [{ op: 'update', id, data: { title: 'Buy oat milk' } }]
    const bulk = await api.request('POST', '/api/tasks/bulk', { ...key, json: { operations } })
    expect(bulk.status).toBe(200)
    expect((await api.request('GET', `/api/${bob.id}/tasks`, key)).body).toMatchObject({
      code: 'wrong_user',
    })
    const theirs = await api.request<TaskBody>('POST', '/api/tasks', {
      ...bob,
      json: { title: 'x' },
    })
    expect((await api.request('DELETE', `/api/tasks/${theirs.body.id}`, key)).status).toBe(403)
  })

  test('that reads is refused by every route that writes, and changes nothing', async () => {
    const user = await newUser()
    const key = await makeKey(user.token, 'read')
    const { body: task } = await api.request<TaskBody>('POST', '/api/tasks', {
      ...user,
      json: { title: 'x' },
    })
    const before = await everythingOf(user.id)
    const routes = api.app.routes.filter(({ path }) => /^\/api(\/:user_id)?\/tasks/.test(path))
    const writing = routes.filter(
      ({ method, path }) => method !== 'GET' && !path.endsWith('/events/ticket'),
    )
    expect(writing.length).toBeGreaterThanOrEqual(14)
    for (const { method, path } of writing) {
      const target = path.replace(':id', String(task.id)).replace(':user_id', user.id)
      // Before anything about the body is said.
      for (const body of [undefined, '{', '{"title":"y"}'])
        expectInsufficient(
          await api.request(method, target, { ...key, ...(body && { body }) }),
          'tasks:write',
        )
    }
    for (const dialect of ['array', 'tasks', 'items']) {
      const path = `/compat/${dialect}/tasks/${task.id}`
      expectInsufficient(await api.request('DELETE', path, key), 'tasks:write')
    }
    expect(await everythingOf(user.id)).toBe(before)
  })

  test('that reads can follow events, with a ticket too', async () => {
    const user = await newUser()
    const key = await makeKey(user.token, 'read')
    const { body, status } = await api.request<{ ticket: string }>(
      'POST',
      '/api/tasks/events/ticket',
      key,
    )
    expect(status).toBe(201)
    const streams = [
      await openEvents(`${api.origin}/api/tasks/events?ticket=${body.ticket}`),
      await openEvents(`${api.origin}/api/tasks/events`, { authorization: `Bearer ${key.token}` }),
    ]
    await api.request('POST', '/api/tasks', { ...user, json: { title: 'News' } })
    for (const stream of streams) {
      await stream.received(1)
      expect(stream.events).toMatchObject([{ data: { title: 'News' } }])
      stream.close()
    }
  })

  test('cannot make, show or revoke keys', async () => {
    const { token } = await newUser()
    const key = await makeKey(token)
    const scoped = await tokenFor('somebody', { scope: 'tasks:read tasks:write' })
    for (const bearer of [key.token, scoped])
      for (const [method, path] of [
        ['POST', '/api/keys'],
        ['GET', '/api/keys'],
        ['DELETE', `/api/keys/${key.id}`],
      ] as const) {
        const body = method === 'POST' ? { json: json('read') } : {}
        const answer = await api.request(method, path, { token: bearer, ...body })
        expect([answer.status, answer.body]).toMatchObject([403, { code: 'key_not_allowed' }])
      }
    expect(await listKeys(token)).toHaveLength(1)
  })

  test('says to the minute when it was used last, and that is written once', async () => {
    const { id, token } = await newUser()
    const key = await makeKey(token)
    const lastUsed = async () => (await listKeys(token))[0]!.last_used_at
    const version = async () =>
      database.query`select xmin::text from todo_api.personal_keys where user_id = ${id}`
    const before = Math.floor(Date.now() / 60_000) * 60_000
    await api.request('GET', '/api/tasks', key)
    const used = Date.parse(
      await eventually('the use is written down', async () => (await lastUsed()) ?? undefined),
    )
    expect(used % 60_000).toBe(0)
    expect(used).toBeGreaterThanOrEqual(before)
    expect(used).toBeLessThanOrEqual(Date.now())
    // The last use lies ahead, so that no new minute begins during these requests.
    await database.query`
      update todo_api.personal_keys set last_used_at = now() + interval '1 minute' where user_id = ${id}`
    const written = await version()
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) =>
        (index % 2 ? api : elsewhere).request('GET', '/api/tasks', key),
      ),
    )
    expect(await version()).toEqual(written)
  })

  test('is not delayed if its use cannot be recorded, and that takes one connection', async () => {
    const writes: string[] = []
    const { promise: released, resolve: release } = Promise.withResolvers<void>()
    const locked = startApi({
      over: {
        ...database,
        queryWithin:
          (...limits) =>
          async (strings, ...parameters) => {
            const { sql } = Fragment.of(strings, parameters)
            if (sql.includes('update todo_api.personal_keys')) {
              writes.push(sql)
              await released
              // A quarter of a second is little for a busy machine, and then the write would rest for a minute.
              return database.query(strings, ...parameters)
            }
            return database.queryWithin(...limits)(strings, ...parameters)
          },
      },
    })
    const { token } = await newUser()
    const keys = [await makeKey(token), await makeKey(token), await makeKey(token)]
    for (const key of keys)
      expect((await locked.request('GET', '/api/tasks', key)).status).toBe(200)
    expect(writes).toHaveLength(1)
    release()
    await eventually('every use is written down', async () =>
      (await listKeys(token)).every(({ last_used_at }) => last_used_at !== null),
    )
    expect(writes).toHaveLength(2)
    await locked.stop()
  })

  test('that has expired is token_expired, by the clock of the database', async () => {
    const { id, token } = await newUser()
    const key = await makeKey(token)
    await database.query`
      update todo_api.personal_keys set expires_at = now() - interval '1 millisecond' where user_id = ${id}`
    const { status, body, headers } = await api.request('GET', '/api/tasks', key)
    const detail = 'The key has expired; make a new one'
    expect([status, body]).toMatchObject([401, { code: 'token_expired', detail }])
    expect(headers.get('www-authenticate')).toBe('Bearer error="invalid_token"')
  })

  test('that is unknown is 401, and what only looks like one is not looked up', async () => {
    const statements: number[] = []
    const counting = startApi({
      over: databaseThat(async (strings, ...parameters) => {
        statements.push(1)
        return database.query(strings, ...parameters)
      }),
    })
    const { token } = await newUser()
    const key = (await makeKey(token)).token
    expect((await counting.request('GET', '/api/tasks', { token: key })).status).toBe(200)
    const unknown = `todo_${'A'.repeat(43)}`
    const statusFor = async (given: string) => {
      const { status, body } = await counting.request('GET', '/api/tasks', { token: given })
      return [status, body]
    }
    const invalid = [401, { code: 'token_invalid' }]
    expect(await statusFor(unknown)).toMatchObject([
      401,
      { code: 'token_invalid', detail: 'There is no such key, or it was revoked; make a new one' },
    ])
    const asked = statements.length
    for (const given of [
      `${key}A`,
      key.slice(0, -1),
      key.toUpperCase(),
      `todo_${'='.repeat(43)}`,
      `${key}.${'A'.repeat(43)}`,
      `todo_${'x'.repeat(10_000)}`,
    ])
      expect(await statusFor(given)).toMatchObject(invalid)
    expect(statements).toHaveLength(asked)
    await counting.stop()
  })

  test('counts against the quota of its user, whichever of their keys it is', async () => {
    const limited = startApi({ settings: { RATE_LIMIT_PER_USER: '4' } })
    const { token } = await newUser()
    const keys = [await makeKey(token), await makeKey(token, 'read')]
    const statuses: number[] = []
    for (const bearer of [...keys, { token }, ...keys])
      statuses.push((await limited.request('GET', '/api/tasks', bearer)).status)
    expect(statuses).toEqual([200, 200, 200, 200, 429])
    await limited.stop()
  })

  test('is told from the others that come at the same moment', async () => {
    const users = await Promise.all(Array.from({ length: 8 }, newUser))
    const keys = await Promise.all(users.map(async ({ token }) => makeKey(token)))
    await Promise.all(
      users.map(async (user) =>
        api.request('POST', '/api/tasks', { ...user, json: { title: user.id } }),
      ),
    )
    await Promise.all(
      Array.from({ length: 80 }, async (_, index) => {
        const answer = await api.request<TaskBody[]>('GET', '/api/tasks', keys[index % 8])
        expect(answer.body.map(({ title }) => title)).toEqual([users[index % 8]!.id])
      }),
    )
  })
})

describe('revoking', () => {
  test('works at once on every process, and ends the key’s streams', async () => {
    const { token } = await newUser()
    const [key, other] = [await makeKey(token), await makeKey(token)]
    const headers = { authorization: `Bearer ${key.token}` }
    const streams = [
      await openEvents(`${api.origin}/api/tasks/events`, headers),
      await openEvents(`${elsewhere.origin}/api/tasks/events`, headers),
    ]
    for (const process of [api, elsewhere])
      expect((await process.request('GET', '/api/tasks', key)).status).toBe(200)
    const gone = await api.request('DELETE', `/api/keys/${key.id}`, { token })
    expect([gone.status, gone.text]).toEqual([204, ''])
    for (const process of [elsewhere, api]) {
      const { status, body } = await process.request('GET', '/api/tasks', key)
      expect([status, body]).toMatchObject([401, { code: 'token_invalid' }])
    }
    await Promise.all(streams.map(async ({ ended }) => ended))
    expect((await elsewhere.request('GET', '/api/tasks', other)).status).toBe(200)
    expect((await listKeys(token)).map(({ id }) => id)).toEqual([other.id])
  }, 70_000)

  test('ends what a ticket of the key opens: at once if it is not open yet', async () => {
    const looking = startApi({ lookEvery: 100 })
    const { token } = await newUser()
    const [key, other] = [await makeKey(token, 'read'), await makeKey(token, 'read')]
    const ticketOf = async (bearer: { token: string }) => {
      const issued = await api.request<{ ticket: string }>(
        'POST',
        '/api/tasks/events/ticket',
        bearer,
      )
      return issued.body.ticket
    }
    const [used, unused, others, own] = [
      await ticketOf(key),
      await ticketOf(key),
      await ticketOf(other),
      await ticketOf({ token }),
    ]
    const path = (ticket: string) => `/api/tasks/events?ticket=${ticket}`
    const stream = await openEvents(`${looking.origin}${path(used)}`)
    expect(stream.status).toBe(200)
    await api.request('DELETE', `/api/keys/${key.id}`, { token })

    for (const method of ['HEAD', 'GET']) {
      const refused = await elsewhere.request(method, path(unused))
      expect(refused.status).toBe(401)
      expect(refused.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"')
    }
    await stream.ended
    // A ticket that is edited to name another key, or none, is refused.
    const stolen = await ticketOf(other)
    for (const forged of [unused.split('.')[0]!, stolen.split('.')[0]!, `${own}.${other.id}`])
      expect((await api.request('GET', path(forged))).status).toBe(401)
    for (const ticket of [others, own]) {
      const opened = await openEvents(`${elsewhere.origin}${path(ticket)}`)
      expect(opened.status).toBe(200)
      opened.close()
    }
    await looking.stop()
  })

  test('what is nobody’s, somebody else’s or gone already is 404', async () => {
    const [alice, bob] = [await newUser(), await newUser()]
    const key = await makeKey(alice.token)
    for (const [id, token] of [
      [key.id, bob.token],
      [Number.MAX_SAFE_INTEGER, alice.token],
    ] as const) {
      const { status, body } = await api.request('DELETE', `/api/keys/${id}`, { token })
      expect([status, body]).toMatchObject([404, { code: 'key_not_found' }])
    }
    expect((await api.request('GET', '/api/tasks', key)).status).toBe(200)
    const remove = async () => api.request('DELETE', `/api/keys/${key.id}`, alice)
    expect((await remove()).status).toBe(204)
    expect((await remove()).status).toBe(404)
    const { token: again } = await makeKey(alice.token)
    const [{ id: left } = { id: 0 }] = await listKeys(alice.token)
    const under = { ...alice, headers: { 'idempotency-key': 'same' } }
    for (const status of [204, 404]) {
      const answer = await api.request('DELETE', `/api/keys/${left}`, under)
      expect([answer.status, answer.headers.has('idempotent-replayed')]).toEqual([status, false])
    }
    expect((await api.request('GET', '/api/tasks', { token: again })).status).toBe(401)
    for (const id of ['01', 'x', '-1', '1e3', '9007199254740993'])
      expect((await api.request('DELETE', `/api/keys/${id}`, alice)).status).toBe(422)
  })
})

test('a key that expired 30 days ago is purged, and one that never expires is not', async () => {
  const { id, token } = await newUser()
  const old = await makeKey(token)
  const [recent, lasting] = [
    await makeKey(token),
    await makeKey(token, 'read', { expires_in_days: null }),
  ]
  const expire = async (key: number, ago: string) =>
    database.query`
      update todo_api.personal_keys set expires_at = now() - ${ago}::text::interval
      where user_id = ${id} and id = ${key}`
  await expire(old.id, '31 days')
  await expire(recent.id, '29 days')
  await purge(database)
  expect((await listKeys(token)).map((key) => key.id)).toEqual([recent.id, lasting.id])
})

describe('a token with a scope', () => {
  const statusesFor = async (scope: unknown) => {
    const { id } = await newUser()
    const token = await tokenFor(id, { scope })
    const [read, write] = [
      await api.request('GET', '/api/tasks', { token }),
      await api.request('POST', '/api/tasks', { token, json: { title: 'x' } }),
    ]
    return [read, write].map<unknown>(({ status, body }) => (status < 400 ? status : body))
  }
  const refused = { code: 'insufficient_scope' }

  test.each([
    ['tasks:read', [200, refused]],
    ['tasks:write', [refused, 201]],
    ['openid tasks:read tasks:write', [200, 201]],
    ['openid profile', [refused, refused]],
    ['', [refused, refused]],
    ['tasks:writes tasks:readonly TASKS:READ', [refused, refused]],
    [['tasks:read'], [200, refused]],
    [7, [refused, refused]],
    [null, [refused, refused]],
    [undefined, [200, 201]],
  ])('%j gets no more than it says', async (scope, expected) => {
    expect(await statusesFor(scope)).toMatchObject(expected)
  })

  test.each(['at+jwt', 'AT+JWT', 'application/at+jwt'])(
    'of type %s is none for the API',
    async (typ) => {
      const { id } = await newUser()
      const token = await tokenFor(id, { scope: 'tasks:read' }, { typ })
      const { status, body } = await api.request('GET', '/api/tasks', { token })
      expect([status, body]).toMatchObject([401, { code: 'token_invalid' }])
    },
  )
})
