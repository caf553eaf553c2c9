import { afterAll, describe, expect, test } from 'bun:test'
import { connect as dial } from 'node:net'
import {
  database,
  newUser,
  rowsOf,
  startApi,
  tokenFor,
  writeUncounted,
  type RequestOptions,
  type TaskBody,
} from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { purge } from '../../tasks/purge.ts'

const api = startApi()
afterAll(api.stop)

type User = { id: string; token: string }
type Page = {
  items: TaskBody[]
  deleted: { id: number; deleted_at: string }[]
  sync_token: string
  has_more: boolean
}

const instant = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)

async function create({ token }: User, title: string): Promise<TaskBody> {
  return (await api.request<TaskBody>('POST', '/api/tasks', { token, json: { title } })).body
}
async function send<Body = TaskBody>(
  user: User,
  method: string,
  path: string,
  options: RequestOptions = {},
) {
  return api.request<Body>(method, `/api/tasks${path}`, { token: user.token, ...options })
}
async function changes(user: User, since?: string, limit?: number) {
  const query = new URLSearchParams({
    ...(since && { since }),
    ...(limit && { limit: String(limit) }),
  })
  return send<Page>(user, 'GET', `/changes?${query.toString()}`)
}

describe('the trash', () => {
  test('takes what is deleted, and gives it back as it was', async () => {
    const user = await newUser()
    const [first, second] = [await create(user, 'First'), await create(user, 'Second')]
    expect((await send(user, 'DELETE', `/${first.id}`)).status).toBe(204)
    expect((await send(user, 'DELETE', `/${second.id}`)).status).toBe(204)
    expect((await send(user, 'GET', '')).body as unknown).toEqual([])
    const trash = await send<unknown>(user, 'GET', '/trash')
    expect(trash.body).toEqual([
      { ...second, version: 2, deleted_at: instant },
      { ...first, version: 2, deleted_at: instant },
    ])
    const restored = await send(user, 'POST', `/${first.id}/restore`)
    expect([restored.status, restored.headers.get('etag')]).toEqual([200, '"3"'])
    expect(restored.body).toEqual({ ...first, version: 3, updated_at: instant })
    expect((await send(user, 'GET', '')).body as unknown).toEqual([restored.body])
    expect((await send<unknown[]>(user, 'GET', '/trash')).body).toHaveLength(1)
  })

  const elsewhere: [string, string, RequestOptions][] = [
    ['GET', '', {}],
    ['PUT', '', { json: { title: 'x' } }],
    ['PATCH', '', { json: { title: 'x' } }],
    ['PATCH', '/complete', {}],
    ['DELETE', '', {}],
  ]
  test.each(elsewhere)('%s%s cannot see into it', async (method, rest, options) => {
    const [user, other] = [await newUser(), await newUser()]
    const { id } = await create(user, 'Trashed')
    await send(user, 'DELETE', `/${id}`)
    for (const asker of [user, other]) {
      const { status, body } = await send<unknown>(asker, method, `/${id}${rest}`, options)
      expect(status).toBe(404)
      expect(body).toMatchObject({ code: 'task_not_found' })
    }
    expect((await send<unknown[]>(user, 'GET', '/trash')).body).toHaveLength(1)
  })

  test('restores only what is in it, and nobody else’s task', async () => {
    const [user, other] = [await newUser(), await newUser()]
    const [live, trashed] = [await create(user, 'Live'), await create(user, 'Trashed')]
    await send(user, 'DELETE', `/${trashed.id}`)
    expect((await send(user, 'POST', `/${live.id}/restore`)).status).toBe(404)
    expect((await send(user, 'POST', '/9007199254740991/restore')).status).toBe(404)
    for (const { id } of [live, trashed]) {
      const refused = await send<unknown>(other, 'POST', `/${id}/restore`)
      expect([refused.status, (refused.body as { code: string }).code]).toEqual([403, 'not_owner'])
    }
    const operations = [live, trashed].map(({ id }) => ({ op: 'restore', id }))
    const bulk = await send<unknown>(other, 'POST', '/bulk', {
      json: { atomic: false, operations },
    })
    expect(bulk.body).toMatchObject({
      results: [
        { status: 403, code: 'not_owner' },
        { status: 403, code: 'not_owner' },
      ],
    })
    expect(
      (await send(user, 'POST', `/${trashed.id}/restore`, { headers: { 'if-match': '"1"' } }))
        .status,
    ).toBe(412)
    expect((await send<unknown[]>(user, 'GET', '/trash')).body).toHaveLength(1)
    expect((await send(other, 'GET', '/trash')).body as unknown).toEqual([])
  })

  test('permanent deletes for good, from the list or from the trash', async () => {
    const [user, other] = [await newUser(), await newUser()]
    const [live, trashed] = [await create(user, 'Live'), await create(user, 'Trashed')]
    await send(user, 'DELETE', `/${trashed.id}`)
    for (const { id } of [live, trashed]) {
      expect((await send(other, 'DELETE', `/${id}?permanent=true`)).status).toBe(403)
      expect((await send(user, 'DELETE', `/${id}?permanent=true`)).status).toBe(204)
      expect((await send(user, 'DELETE', `/${id}?permanent=true`)).status).toBe(404)
      expect((await send(user, 'POST', `/${id}/restore`)).status).toBe(404)
    }
    expect(await database.query`select from todo_api.tasks where user_id = ${user.id}`).toEqual([])
    expect(
      await database.query`select task_count from todo_api.task_lists where user_id = ${user.id}`,
    ).toEqual([{ task_count: 0 }])
    expect((await send(user, 'DELETE', '/1?permanent=yes')).status).toBe(422)
  })

  test('does not count for the limit, which restoring keeps', async () => {
    const small = startApi({ settings: { MAX_TASKS_PER_USER: '1' } })
    const { id: user, token } = await newUser()
    const post = async () =>
      small.request<TaskBody>('POST', '/api/tasks', { token, json: { title: 'x' } })
    const first = await post()
    await small.request('DELETE', `/api/tasks/${first.body.id}`, { token })
    const second = await post()
    expect(second.status).toBe(201)
    const restore = async () =>
      small.request('POST', `/api/tasks/${first.body.id}/restore`, { token })
    const refused = await restore()
    expect([refused.status, refused.body]).toEqual([
      409,
      expect.objectContaining({ code: 'task_limit_reached' }),
    ])
    await small.request('DELETE', `/api/tasks/${second.body.id}`, { token })
    expect((await restore()).status).toBe(200)
    expect(await rowsOf(user)).toHaveLength(1)
    await small.stop()
  })
})

describe('changes', () => {
  test('without a token: everything; with it: what has changed since', async () => {
    const user = await newUser()
    const [a, b, c] = [await create(user, 'a'), await create(user, 'b'), await create(user, 'c')]
    const first = await changes(user)
    expect(first.status).toBe(200)
    expect(first.body).toEqual({
      items: [a, b, c],
      deleted: [],
      sync_token: expect.any(String),
      has_more: false,
    })
    expect((await send(user, 'GET', '')).headers.get('sync-token')).toBe(first.body.sync_token)

    const nothing = await changes(user, first.body.sync_token)
    expect(nothing.body).toEqual({
      items: [],
      deleted: [],
      sync_token: first.body.sync_token,
      has_more: false,
    })

    const changed = (await send(user, 'PATCH', `/${a.id}/complete`)).body
    await send(user, 'DELETE', `/${b.id}`)
    await send(user, 'DELETE', `/${c.id}?permanent=true`)
    const d = await create(user, 'd')
    const next = await changes(user, first.body.sync_token)
    expect(next.body).toEqual({
      items: [changed, d],
      deleted: [
        { id: b.id, deleted_at: instant },
        { id: c.id, deleted_at: instant },
      ],
      sync_token: expect.any(String),
      has_more: false,
    })
    const restored = (await send(user, 'POST', `/${b.id}/restore`)).body
    expect((await changes(user, next.body.sync_token)).body).toMatchObject({
      items: [restored],
      deleted: [],
    })
  })

  test('pages hold what fits and say whether there is more', async () => {
    const user = await newUser()
    for (let number = 0; number < 7; number += 1) await create(user, `Task ${number}`)
    const seen: string[] = []
    let page = (await changes(user, undefined, 3)).body
    const sizes = [page.items.length]
    seen.push(...page.items.map(({ title }) => title))
    while (page.has_more) {
      page = (await changes(user, page.sync_token, 3)).body
      sizes.push(page.items.length)
      seen.push(...page.items.map(({ title }) => title))
    }
    expect(sizes).toEqual([3, 3, 1])
    expect(seen).toEqual(Array.from({ length: 7 }, (_, number) => `Task ${number}`))
  })

  test('a user without tasks gets a sync token, too', async () => {
    const user = await newUser()
    const { body } = await changes(user)
    expect(body).toEqual({
      items: [],
      deleted: [],
      sync_token: expect.any(String),
      has_more: false,
    })
    const task = await create(user, 'First')
    expect((await changes(user, body.sync_token)).body.items).toEqual([task])
  })

  test('another user’s token, or a made-up one, is refused', async () => {
    const [user, other] = [await newUser(), await newUser()]
    await create(user, 'x')
    const token = (await changes(user)).body.sync_token
    for (const [asker, since] of [
      [other, token],
      [user, `${token}x`],
      [user, '1'],
      [user, '1.1.abc'],
      [user, 'x'.repeat(200)],
    ] as const) {
      const { status, body } = await changes(asker, since)
      expect([status, (body as unknown as { code: string }).code]).toEqual([
        422,
        'validation_failed',
      ])
    }
    for (const limit of ['0', '1001', 'x'])
      expect((await send(user, 'GET', `/changes?limit=${limit}`)).status).toBe(422)
  })
})

describe('purging', () => {
  const age = async (user: User, days: number) => {
    await writeUncounted(`
      update todo_api.tasks set deleted_at = deleted_at - interval '${days} days'
      where user_id = '${user.id}' and deleted_at is not null`)
    await database.query`
      update todo_api.deleted_tasks set deleted_at = deleted_at - make_interval(days => ${days}::int)
      where user_id = ${user.id}`
  }

  test('after 30 days, and then a token from before is 410', async () => {
    const user = await newUser()
    const [kept, trashed, gone] = [
      await create(user, 'kept'),
      await create(user, 'trashed'),
      await create(user, 'gone'),
    ]
    const before = (await changes(user)).body.sync_token
    await send(user, 'DELETE', `/${trashed.id}`)
    await send(user, 'DELETE', `/${gone.id}?permanent=true`)
    const after = (await changes(user, before)).body.sync_token
    await age(user, 29)
    await purge(database)
    expect((await changes(user, before)).body.deleted).toHaveLength(2)
    await age(user, 2)
    await Promise.all([purge(database), purge(database), purge(database)])
    await purge(database)
    expect((await send(user, 'GET', '/trash')).body as unknown).toEqual([])
    expect(
      await database.query`select from todo_api.deleted_tasks where user_id = ${user.id}`,
    ).toEqual([])
    const old = await changes(user, before)
    expect(old.status).toBe(410)
    expect(old.body as unknown).toEqual({
      detail: 'Changes since this token have been forgotten; start again without one',
      code: 'sync_token_expired',
      request_id: old.headers.get('x-request-id'),
    })
    expect((await changes(user, after)).body).toMatchObject({ items: [], deleted: [] })
    // A new copy is read in pages whose first changes are older than what has been forgotten.
    const first = await changes(user, undefined, 1)
    expect(first.body.items).toEqual([kept])
    await create(user, 'another')
    expect((await changes(user, first.body.sync_token)).body.items).toHaveLength(1)
  })

  test('a first copy read in pages is not upset by what was forgotten before it began', async () => {
    const user = await newUser()
    for (let number = 0; number < 4; number += 1) await create(user, `Task ${number}`)
    const doomed = await create(user, 'doomed')
    await send(user, 'DELETE', `/${doomed.id}`)
    await age(user, 31)
    await purge(database)
    const first = await changes(user, undefined, 2)
    expect(first.body.has_more).toBe(true)
    const second = await changes(user, first.body.sync_token, 2)
    expect([second.status, second.body.items.length, second.body.has_more]).toEqual([200, 2, false])
  })

  test('takes idempotency keys after 24 hours', async () => {
    const user = await newUser()
    const headers = { 'idempotency-key': 'old' }
    await send(user, 'POST', '', { json: { title: 'x' }, headers })
    await purge(database)
    const keys = async () =>
      (await database.query`select from todo_api.idempotency_keys where user_id = ${user.id}`)
        .length
    expect(await keys()).toBe(1)
    await database.query`update todo_api.idempotency_keys set created_at = now() - interval '25 hours' where user_id = ${user.id}`
    await purge(database)
    expect(await keys()).toBe(0)
  })
})

describe('events', () => {
  const events = async (user: User, query = '', headers: Record<string, string> = {}) =>
    openEvents(`${api.origin}/api/tasks/events${query}`, {
      authorization: `Bearer ${user.token}`,
      ...headers,
    })

  test('tell what happens, in order, with the task', async () => {
    const user = await newUser()
    const stream = await events(user)
    expect(stream.status).toBe(200)
    expect(stream.headers.get('content-type')).toBe('text/event-stream')
    expect(stream.headers.get('cache-control')).toBe('private, no-store')
    expect(stream.headers.get('x-request-id')).toBeTruthy()
    const created = await create(user, 'Live')
    await stream.received(1)
    const completed = (await send(user, 'PATCH', `/${created.id}/complete`)).body
    await stream.received(2)
    await send(user, 'DELETE', `/${created.id}`)
    await stream.received(3)
    const restored = (await send(user, 'POST', `/${created.id}/restore`)).body
    await stream.received(4)
    await send(user, 'DELETE', `/${created.id}?permanent=true`)
    await stream.received(5)
    expect(stream.events).toEqual([
      { id: '1', event: 'task.created', data: created },
      { id: '2', event: 'task.updated', data: completed },
      { id: '3', event: 'task.deleted', data: { id: created.id } },
      { id: '4', event: 'task.restored', data: restored },
      { id: '5', event: 'task.deleted', data: { id: created.id } },
    ])
    stream.close()
    await stream.ended
  })

  test('Last-Event-ID resumes with nothing lost and nothing twice; so does since', async () => {
    const user = await newUser()
    const [a, b] = [await create(user, 'a'), await create(user, 'b')]
    const token = (await send(user, 'GET', '')).headers.get('sync-token')!
    const c = await create(user, 'c')
    const changed = (await send(user, 'PATCH', `/${a.id}/complete`)).body
    const expected = [
      { id: '3', event: 'task.created', data: c },
      { id: '4', event: 'task.updated', data: changed },
    ]
    for (const [query, headers] of [
      ['', { 'last-event-id': '2' }],
      ['?since=2', {}],
      [`?since=${token}`, {}],
      ['?since=1', { 'last-event-id': '2' }],
    ] as const) {
      const stream = await events(user, query, headers)
      await stream.received(2)
      expect(stream.events).toEqual(expected)
      stream.close()
    }
    const fromStart = await events(user, '?since=0')
    await fromStart.received(3)
    // If one task changed several times before, only its last change is told, which is new to this reader.
    expect(fromStart.events).toEqual([
      { id: '2', event: 'task.created', data: b },
      { id: '3', event: 'task.created', data: c },
      { id: '4', event: 'task.created', data: changed },
    ])
    fromStart.close()
  })

  test('too far back gets one resync and then goes on', async () => {
    const user = await newUser()
    const { id } = await create(user, 'gone')
    await send(user, 'DELETE', `/${id}`)
    await writeUncounted(
      `update todo_api.tasks set deleted_at = now() - interval '31 days' where user_id = '${user.id}'`,
    )
    await purge(database)
    for (const seen of ['1', '999']) {
      const stream = await events(user, '', { 'last-event-id': seen })
      await stream.received(1)
      expect(stream.events[0]).toMatchObject({ event: 'resync', data: {} })
      const { title } = await create(user, `after ${seen}`)
      await stream.received(2)
      expect(stream.events[1]).toMatchObject({ event: 'task.created', data: { title } })
      stream.close()
    }
  })

  test('a reader who is slow, or far behind, gets everything, and holds nobody up', async () => {
    const user = await newUser()
    const many = 3_000
    await database.query`
      with list as (
        insert into todo_api.task_lists (user_id, counter, task_count) values (${user.id}, ${many}, ${many}) returning counter
      )
      insert into todo_api.tasks (user_id, title, description, change, created_change)
      select ${user.id}, 'Task ' || n, repeat('ü', 1000), n, n from list, generate_series(1, counter) n`
    const socket = dial(Number(new URL(api.origin).port), '127.0.0.1')
    socket.pause()
    socket.write(
      `GET /api/tasks/events?since=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\n\r\n`,
    )
    const fast = await events(user, '?since=0')
    await fast.received(many)
    expect(fast.events.map(({ id }) => Number(id))).toEqual(
      Array.from({ length: many }, (_, index) => index + 1),
    )
    fast.close()
    const { promise: gotAll, resolve: endReading } = Promise.withResolvers<void>()
    let text = ''
    socket.on('data', (bytes) => {
      const place = Math.max(text.length - 100, 0)
      text += bytes.toString('latin1')
      if (text.includes(`id: ${many}\n`, place)) endReading()
    })
    socket.resume()
    await gotAll
    expect([...text.matchAll(/^id: (\d+)\nevent/gm)].map(([, id]) => Number(id))).toEqual(
      Array.from({ length: many }, (_, index) => index + 1),
    )
    socket.destroy()
  }, 120_000)

  test('other users’ changes never appear', async () => {
    const [alice, bob] = [await newUser(), await newUser()]
    const [hers, his] = [await events(alice), await events(bob)]
    await Promise.all([create(bob, 'his'), create(alice, 'hers')])
    await Promise.all([hers.received(1), his.received(1)])
    await create(alice, 'hers too')
    await hers.received(2)
    expect(hers.events.map(({ data }) => (data as TaskBody).title)).toEqual(['hers', 'hers too'])
    expect(his.events.map(({ data }) => (data as TaskBody).title)).toEqual(['his'])
    hers.close()
    his.close()
  })

  test('the stream ends when the token expires', async () => {
    const { id } = await newUser()
    const token = await tokenFor(id, { exp: Math.floor(Date.now() / 1000) + 1 })
    const stream = await events({ id, token })
    expect(stream.status).toBe(200)
    await stream.ended
  })

  test('HEAD answers without opening a stream', async () => {
    const { status, headers, text } = await api.request(
      'HEAD',
      '/api/tasks/events',
      await newUser(),
    )
    expect([status, text, headers.get('content-type')]).toEqual([200, '', 'text/event-stream'])
  })

  test('a server that is told to stop ends its streams', async () => {
    const other = startApi()
    const user = await newUser()
    const stream = await openEvents(`${other.origin}/api/tasks/events`, {
      authorization: `Bearer ${user.token}`,
    })
    await other.stop()
    await stream.ended
  })

  test.each(['abc', '-1', '1.1.xx', '999999999999999999'])(
    'Last-Event-ID: %s cannot be resumed from',
    async (id) => {
      const stream = await events(await newUser(), '', { 'last-event-id': id })
      await stream.received(1)
      expect(stream.events).toEqual([{ id: '0', event: 'resync', data: {} }])
      stream.close()
    },
  )

  test('a stream that is cut before its first event has an id to resume from', async () => {
    const user = await newUser()
    await create(user, 'before')
    const { body } = await fetch(`${api.origin}/api/tasks/events`, {
      headers: { authorization: `Bearer ${user.token}` },
    })
    const reader = body!.getReader()
    const { value } = await reader.read()
    expect(Buffer.from(value ?? []).toString()).toBe('retry: 3000\nid: 1\n\n')
    await reader.cancel()
  })
})

describe('tickets', () => {
  const ticketOf = async (user: User) =>
    send<{ ticket: string; expires_in: number }>(user, 'POST', '/events/ticket')
  const withTicket = async (ticket: string, mount = '/api/tasks') =>
    openEvents(`${api.origin}${mount}/events?ticket=${encodeURIComponent(ticket)}`)

  test('open the stream of the user they were given to, once, at any server', async () => {
    const [user, other] = [await newUser(), startApi()]
    const { status, body } = await ticketOf(user)
    expect([status, body]).toEqual([
      201,
      { ticket: expect.stringMatching(/^[\w-]{32}$/), expires_in: 30 },
    ])
    const stream = await openEvents(`${other.origin}/api/tasks/events?ticket=${body.ticket}`)
    expect(stream.status).toBe(200)
    const task = (
      await other.request<TaskBody>('POST', '/api/tasks', {
        token: user.token,
        json: { title: 'x' },
      })
    ).body
    await stream.received(1)
    expect(stream.events[0]!.data).toEqual(task)
    expect((await withTicket(body.ticket)).status).toBe(401)
    stream.close()
    await other.stop()
  })

  test('are checked by HEAD but not used up', async () => {
    const user = await newUser()
    const { ticket } = (await ticketOf(user)).body
    const head = async (of: string) =>
      (await api.request('HEAD', `/api/tasks/events?ticket=${of}`)).status
    expect([await head(ticket), await head(ticket), await head('x'.repeat(32))]).toEqual([
      200, 200, 401,
    ])
    const stream = await withTicket(ticket)
    expect(stream.status).toBe(200)
    stream.close()
    expect(await head(ticket)).toBe(401)
  })

  test('are good for 30 seconds', async () => {
    const user = await newUser()
    const { ticket } = (await ticketOf(user)).body
    await database.query`update todo_api.event_tickets set expires_at = expires_at - interval '31 seconds' where user_id = ${user.id}`
    const refused = await withTicket(ticket)
    expect(refused.status).toBe(401)
    expect(refused.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"')
  })

  test('are kept as hashes, and open nothing else and no other user’s path', async () => {
    const [user, other] = [await newUser(), await newUser()]
    const { ticket } = (await ticketOf(user)).body
    const rows = await database.query<{
      hash: string
    }>`select hash from todo_api.event_tickets where user_id = ${user.id}`
    expect(rows.map(({ hash }) => hash === ticket)).toEqual([false])
    expect((await api.request('GET', `/api/tasks?ticket=${ticket}`)).status).toBe(401)
    expect((await withTicket(ticket, `/api/${other.id}/tasks`)).status).toBe(403)
    for (const wrong of ['', 'x', 'x'.repeat(32)])
      expect((await withTicket(wrong)).status).toBe(401)
    expect((await api.request('POST', '/api/tasks/events/ticket')).status).toBe(401)
  })

  test('are given for tokens that end in the distant future, too', async () => {
    const { id } = await newUser()
    for (const exp of [1e13, Number.MAX_SAFE_INTEGER, 1e300])
      expect((await ticketOf({ id, token: await tokenFor(id, { exp }) })).status).toBe(201)
  })

  test('end with the token that they were given for', async () => {
    const { id } = await newUser()
    const token = await tokenFor(id, { exp: Math.floor(Date.now() / 1000) + 2 })
    const stream = await withTicket((await ticketOf({ id, token })).body.ticket)
    expect(stream.status).toBe(200)
    await stream.ended
  })
})
