import { expect, test } from 'bun:test'
import { newUser, tokenFor, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents } from '../support/events.ts'
import { bearer, createProbe, type User } from '../support/probe.ts'
import { messageOf } from '../support/mcp.ts'
import { everythingOf } from '../support/rows.ts'

const probe = await createProbe()
const { api } = probe

/** What a route does with a task of the caller's own. */
type Rule = {
  /** Without `/api` or `/api/:user_id`. */
  route: string
  /** The status for a task that is there, or for a route that is about no single task. */
  own: number
  /** The status for a task in the trash. */
  trashed?: number
  query?: string
  json?: object
}

/** Every route below both families of paths. What it must answer to everybody else follows. */
const rules: Rule[] = [
  { route: 'GET /tasks', own: 200 },
  { route: 'GET /tasks', own: 200, query: '?q=mark&limit=1&sort=-updated' },
  { route: 'POST /tasks', own: 201, json: { title: 'x' } },
  {
    route: 'POST /tasks/bulk',
    own: 200,
    json: { operations: [{ op: 'create', data: { title: 'x' } }] },
  },
  { route: 'GET /tasks/trash', own: 200 },
  { route: 'GET /tasks/changes', own: 200 },
  { route: 'GET /tasks/events', own: 200 },
  { route: 'GET /tasks/events', own: 200, query: '?since=0' },
  { route: 'POST /tasks/events/ticket', own: 201 },
  { route: 'GET /tasks/:id', own: 200 },
  { route: 'PUT /tasks/:id', own: 200, json: { title: 'x' } },
  { route: 'PATCH /tasks/:id', own: 200, json: { tags: ['x'] } },
  { route: 'PATCH /tasks/:id/complete', own: 200 },
  { route: 'PATCH /tasks/:id/complete', own: 200, json: { completed: true } },
  { route: 'DELETE /tasks/:id', own: 204 },
  { route: 'DELETE /tasks/:id', own: 204, trashed: 204, query: '?permanent=true' },
  { route: 'POST /tasks/:id/restore', own: 404, trashed: 200 },
  { route: 'POST /tasks/:id/skip', own: 200 },
]

/** These have tests of their own, at the end. */
const agents = 'POST /mcp'
const keyRoutes = ['GET /api/keys', 'POST /api/keys', 'DELETE /api/keys/:id']

/** What anybody may ask for. */
const openRoutes = [
  'GET /health',
  'GET /ready',
  'GET /.well-known/oauth-protected-resource/mcp',
  'GET /',
  'GET /docs',
  'GET /docs/json',
  'GET /docs/page.css',
  'GET /docs/start.js',
  'GET /docs/swagger-ui.css',
  'GET /docs/swagger-ui-bundle.js',
  'GET /docs/favicon.png',
  // Preflight requests.
  'OPTIONS /',
  'OPTIONS /*',
]

test('every route has its rule here and its place in the document, under both families of paths', () => {
  const router = api.app.routes.map(({ method, path }) => `${method} ${path}`)
  const below = (prefix: string) =>
    router
      .filter((route) => route.includes(` ${prefix}/tasks`))
      .map((route) => route.replace(prefix, ''))
      .toSorted()
  const ruled = [...new Set(rules.map(({ route }) => route))].toSorted()
  expect(below('/api')).toEqual(ruled)
  expect(below('/api/:user_id')).toEqual(ruled)
  const others = router.filter((route) => !/ \/api(\/:user_id)?\/tasks/.test(route))
  expect(new Set(others)).toEqual(new Set([...openRoutes, ...keyRoutes, agents]))
  const documented = probe.conformance.operations.map(
    ({ method, path }) => `${method} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
  )
  const visible = router.filter((route) => !/^OPTIONS|^GET \/(docs|$)|:user_id/.test(route))
  expect(new Set(documented)).toEqual(new Set(visible))
})

test('every handler has a name, by which traces show it', () => {
  const unnamed = api.app.routes.filter(
    ({ method, handler }) => method !== 'OPTIONS' && (handler as { name?: string }).name === '',
  )
  expect(unnamed.map(({ path }) => path)).toEqual([])
})

type Person = User & { mark: string; live: number; trashed: number }

/** Somebody with a task and a task in the trash, both marked. */
async function newPerson(): Promise<Person> {
  const user = await newUser()
  const person = { ...user, mark: `mark-${user.id}`, live: 0, trashed: 0 }
  await settle(person)
  return person
}

async function settle(person: Person): Promise<void> {
  const json = {
    title: person.mark,
    tags: [person.mark.slice(0, 50)],
    due_date: '2030-05-17',
    recurrence: 'daily',
  }
  const create = async () =>
    (await api.request<TaskBody>('POST', '/api/tasks', { ...person, json })).body.id
  person.live = await create()
  person.trashed = await create()
  await api.request('DELETE', `/api/tasks/${person.trashed}`, person)
}

/** Texts that look like the user's token and are not. */
async function refusedTokens({ id, token }: User): Promise<(string | undefined)[]> {
  const [head, claims, signature] = token.split('.')
  const none = Buffer.from('{"alg":"none"}').toString('base64url')
  const others = Buffer.from(JSON.stringify({ sub: id, exp: 4e9 })).toString('base64url')
  return [
    undefined,
    `Basic ${Buffer.from(`${id}:`).toString('base64')}`,
    `Bearer ${await tokenFor(id, { exp: Math.floor(Date.now() / 1000) - 60 })}`,
    `Bearer ${await tokenFor(id, {}, { key: 'another secret of 32 characters and more' })}`,
    `Bearer ${none}.${claims}.`,
    `Bearer ${none}.${claims}.${signature}`,
    `Bearer ${head}.${others}.${signature}`,
  ]
}

/** A task that is asked for: its owner, if it has one, and the statuses that its owner and others get. */
type Target = { whose?: Person; id: () => number; status: number; toOthers: number }

test.each(rules)(
  '$route reaches what is the token’s own, by any path, in a dialect too, and nobody else’s',
  async ({ route, own, trashed = 404, query = '', json }) => {
    const [alice, bob] = [await newPerson(), await newPerson()]
    const refused = await refusedTokens(alice)
    const [verb = '', pattern = ''] = route.split(' ')
    const targets: Target[] = pattern.includes(':id')
      ? [
          ...[alice, bob].flatMap((whose): Target[] => [
            { whose, id: () => whose.live, status: own, toOthers: 403 },
            // In the trash it is not found by anybody, but for what is done there.
            {
              whose,
              id: () => whose.trashed,
              status: trashed,
              toOthers: trashed === 404 ? 404 : 403,
            },
          ]),
          { id: () => Number.MAX_SAFE_INTEGER, status: 404, toOthers: 404 },
        ]
      : [{ id: () => 0, status: own, toOthers: 403 }]

    for (const dialect of ['', '/compat/tasks'])
      for (const method of verb === 'GET' ? ['GET', 'HEAD'] : [verb])
        for (const under of [undefined, alice, bob])
          for (const target of targets) {
            for (const caller of [alice, bob])
              await tryCase(dialect, method, under, target, caller, [`Bearer ${caller.token}`])
            await tryCase(dialect, method, under, target, undefined, refused)
          }

    async function tryCase(
      dialect: string,
      method: string,
      under: Person | undefined,
      target: Target,
      caller: Person | undefined,
      authorizations: (string | undefined)[],
    ): Promise<void> {
      const expected = inDialect(dialect, expectedStatus(caller, under, target))
      const prefix = under ? `/api/${under.id}` : '/api'
      const path = `${dialect}${prefix}${pattern.replace(':id', `${target.id()}`)}${query}`
      const before = [await everythingOf(alice.id), await everythingOf(bob.id)]
      for (const authorization of authorizations) {
        const answer = await probe.send(
          route,
          {
            method,
            target: path,
            headers: { ...(authorization !== undefined && { authorization }) },
            ...(json && { body: JSON.stringify(json) }),
          },
          expected,
        )
        const told = `${[...answer.headers].join('\n')}${answer.text}`
        for (const person of [alice, bob])
          if (person !== caller) expect(told).not.toContain(person.mark)
      }
      const isDone = expected < 300 && !['GET', 'HEAD'].includes(method)
      const after = [await everythingOf(alice.id), await everythingOf(bob.id)]
      for (const [index, person] of [alice, bob].entries())
        if (!(isDone && person === caller)) expect(after[index]).toBe(before[index])
      if (isDone && caller) await settle(caller)
    }

    /** By rule: whose token, whose path, whose task, in this order. */
    function expectedStatus(
      caller: Person | undefined,
      under: Person | undefined,
      target: Target,
    ): number {
      if (caller === undefined) return 401
      if (under !== undefined && under !== caller) return 403
      return target.whose === undefined || target.whose === caller ? target.status : target.toOthers
    }
  },
)

/** A dialect has a body for every answer. */
function inDialect(dialect: string, status: number): number {
  return dialect !== '' && status === 204 ? 200 : status
}

test('what was given to one user is worth nothing to another', async () => {
  const [alice, bob] = [await newPerson(), await newPerson()]
  for (const person of [alice, bob]) await settle(person)
  const page = await api.request('GET', '/api/tasks?limit=1', alice)
  const next = /<([^>]+)>/.exec(page.headers.get('link') ?? '')?.[1] ?? ''
  const since = page.headers.get('sync-token') ?? ''
  const etag = page.headers.get('etag') ?? ''
  const key = { 'idempotency-key': crypto.randomUUID() }
  const keyed = { json: { title: 'the same' }, headers: key }
  await api.request('POST', '/api/tasks', { ...alice, ...keyed })

  const json = { title: 'x' }
  const hers = `/api/tasks/${alice.live}`
  for (const [method, path, options, status] of [
    ['GET', next, {}, 422],
    ['GET', `/api/tasks/changes?since=${since}`, {}, 422],
    ['GET', '/api/tasks?limit=1', { headers: { 'if-none-match': etag } }, 200],
    ['PUT', hers, { json, headers: { 'if-match': '"1"' } }, 403],
    ['PUT', hers, { json, headers: { 'if-match': '"9"' } }, 403],
    ['POST', '/api/tasks', keyed, 201],
  ] as const) {
    const answer = await api.request(method, path, { token: bob.token, ...options })
    expect([path, answer.status]).toEqual([path, status])
    expect(answer.headers.has('idempotent-replayed')).toBe(false)
    expect(answer.text).not.toContain(alice.mark)
  }
})

test('a stream reports its own user’s changes and nobody else’s', async () => {
  const [alice, bob] = [await newPerson(), await newPerson()]
  const stream = await openEvents(`${api.origin}/api/tasks/events`, bearer(bob))
  for (const person of [alice, bob, alice, bob]) await settle(person)
  await eventually('bob’s stream tells of bob’s changes', async () =>
    stream.events.some(({ data }) => JSON.stringify(data) === `{"id":${bob.trashed}}`),
  )
  stream.close()
  expect(JSON.stringify(stream.events)).not.toContain(alice.mark)
})

test('keys are made, listed and revoked by their own user alone', async () => {
  const [alice, bob] = [await newPerson(), await newPerson()]
  const json = (person: Person) => ({ name: person.mark, scope: 'write' })
  const made = await api.request<{ id: number }>('POST', '/api/keys', {
    ...alice,
    json: json(alice),
  })
  const path = `/api/keys/${made.body.id}`
  const before = await everythingOf(alice.id)
  await api.request('POST', '/api/keys', { ...bob, json: { ...json(bob), user_id: alice.id } })
  for (const [method, target, expected] of [
    ['GET', '/api/keys', 200],
    ['DELETE', path, 404],
  ] as const) {
    const answer = await probe.send(target, { method, target, headers: bearer(bob) }, expected)
    expect(answer.text).not.toContain(alice.mark)
  }
  for (const authorization of await refusedTokens(alice))
    for (const route of keyRoutes) {
      const [method = '', pattern = ''] = route.split(' ')
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
      const target = pattern.replace(':id', String(made.body.id))
      await probe.send(route, { method, target, headers }, 401)
    }
  expect(await everythingOf(alice.id)).toBe(before)
  expect((await api.request('DELETE', path, alice)).status).toBe(204)
})

test('an agent reaches what is its user’s own, and strangers nothing', async () => {
  const [alice, bob] = [await newPerson(), await newPerson()]
  const before = await everythingOf(alice.id)
  const calls = [
    ['list_tasks', { q: 'mark' }],
    ...[alice.live, alice.trashed].flatMap((id) =>
      ['get_task', 'update_task', 'complete_task', 'delete_task', 'restore_task'].map(
        (name) => [name, { id, title: 'x', user_id: bob.id }] as const,
      ),
    ),
    ['add_task', { title: 'x', user_id: alice.id }],
  ] as const
  for (const era of ['modern', 'legacy'] as const)
    for (const [name, given] of calls) {
      const { json, headers } = messageOf(era, 'tools/call', { name, arguments: given })
      const message = { method: 'POST', target: '/mcp', body: JSON.stringify(json) }
      const asked = await probe.send(
        name,
        { ...message, headers: { ...headers, ...bearer(bob) } },
        200,
      )
      expect(asked.text).not.toContain(alice.mark)
      expect(asked.text).toContain(name === 'list_tasks' ? bob.mark : '"isError":true')
      for (const authorization of await refusedTokens(alice))
        await probe.send(
          name,
          { ...message, headers: { ...headers, ...(authorization && { authorization }) } },
          401,
        )
    }
  expect(await everythingOf(alice.id)).toBe(before)
})
