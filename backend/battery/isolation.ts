import { newUser, startApi, tokenFor } from '../tests/support/api.ts'
import { eventually } from '../tests/support/eventually.ts'
import { openEvents } from '../tests/support/events.ts'
import type { Postgres } from '../tests/support/postgres.ts'
import { startFreshServer } from './fresh-server.ts'
import { createProbe, each, parsed, type Probe, type User } from './inputs/probe.ts'
import type { Battery } from './main.ts'
import { rowsOf } from './rows.ts'

/** What a route does with a task of the caller's own, and what it is sent. */
type Rule = {
  /** The status for a task that is there, or for a route that is about no single task. */
  own: number
  /** The status for a task in the trash. */
  trashed?: number
  query?: string
  body?: object
}

/** Every route below `/api` and `/api/:user_id`. One that is not here fails the run. */
const rules: Record<string, Rule[]> = {
  'GET /tasks': [{ own: 200 }, { own: 200, query: '?q=mark&limit=1&sort=-updated' }],
  'POST /tasks': [{ own: 201, body: { title: 'x' } }],
  'GET /tasks/trash': [{ own: 200 }],
  'GET /tasks/changes': [{ own: 200 }],
  'GET /tasks/events': [{ own: 200 }, { own: 200, query: '?since=0' }],
  'POST /tasks/events/ticket': [{ own: 201 }],
  'GET /tasks/:id': [{ own: 200, trashed: 404 }],
  'PUT /tasks/:id': [{ own: 200, trashed: 404, body: { title: 'x' } }],
  'PATCH /tasks/:id': [{ own: 200, trashed: 404, body: { tags: ['x'] } }],
  'PATCH /tasks/:id/complete': [
    { own: 200, trashed: 404 },
    { own: 200, trashed: 404, body: { completed: true } },
  ],
  'DELETE /tasks/:id': [
    { own: 204, trashed: 404 },
    { own: 204, trashed: 204, query: '?permanent=true' },
  ],
  'POST /tasks/:id/restore': [{ own: 404, trashed: 200 }],
}

/** What anybody may ask for. */
const openRoutes = new Set([
  'GET /health',
  'GET /ready',
  'GET /docs',
  'GET /docs/json',
  'GET /docs/start.js',
  'GET /docs/swagger-ui.css',
  'GET /docs/swagger-ui-bundle.js',
  'GET /docs/favicon.png',
  // Preflight requests.
  'OPTIONS /',
  'OPTIONS /*',
])

/**
 * Isolation, by the router's own table: users × routes × {own, another's, missing, in the trash},
 * by both families of paths, in the API's own words and in a dialect, and with tokens of every kind.
 */
export async function isolation(battery: Battery): Promise<void> {
  const { report } = battery
  const server = await startFreshServer(battery)
  const { admin } = server
  const probe = await createProbe(server.origin, report, 'isolation cases')
  const routes = knownRoutes(probe, await readRouter())

  await each(
    routes.flatMap((route) => rules[route]!.map((rule) => ({ route, rule }))),
    async ({ route, rule }) => tryRoute(probe, admin, route, rule),
    8,
  )
  await tryBorrowing(probe)
  await tryStreams(probe, server.origin)

  await server.close()
}

async function readRouter(): Promise<string[]> {
  const api = startApi()
  const routes = api.app.routes.map(({ method, path }) => `${method} ${path}`)
  await api.stop()
  return routes
}

/**
 * The routes to try, without their prefix. Router, document and rules must agree on which there are,
 * and the two families of paths must be the same.
 */
function knownRoutes({ conformance, report }: Probe, router: string[]): string[] {
  const below = (prefix: string) =>
    router
      .filter((route) => route.includes(` ${prefix}/tasks`))
      .map((route) => route.replace(prefix, ''))
  const plain = below('/api')
  const documented = conformance.operations.map(
    ({ method, path }) => `${method} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
  )
  const mustAgree = (what: string, one: Iterable<string>, other: Iterable<string>) => {
    const difference = new Set(one).symmetricDifference(new Set(other))
    if (difference.size > 0)
      report.violation(`${what}: they differ in ${[...difference].join(', ')}`)
  }
  mustAgree('routes with and without the user in the path', plain, below('/api/:user_id'))
  mustAgree('routes and the rules of isolation', plain, Object.keys(rules))
  mustAgree(
    'all routes and what is known of them',
    router.filter((route) => !/ \/api(\/:user_id)?\/tasks/.test(route)),
    openRoutes,
  )
  mustAgree(
    'the router and the document',
    router.filter((route) => !/^OPTIONS|^GET \/docs|:user_id/.test(route)),
    documented,
  )
  return plain.filter((route) => route in rules)
}

type Person = User & { mark: string; live: number; trashed: number }

/** Somebody with a task and a task in the trash, both marked. */
async function newPerson(probe: Probe): Promise<Person> {
  const user = await newUser()
  const person = { ...user, mark: `mark-${user.id}`, live: 0, trashed: 0 }
  await settle(probe, person)
  return person
}

async function settle(probe: Probe, person: Person): Promise<void> {
  const headers = { authorization: `Bearer ${person.token}` }
  const create = async () => {
    const body = JSON.stringify({ title: person.mark, tags: [person.mark.slice(0, 50)] })
    const answer = await probe.ask({ method: 'POST', target: '/api/tasks', headers, body })
    return Number(parsed(answer.text)['id'])
  }
  person.live = await create()
  person.trashed = await create()
  await probe.ask({ method: 'DELETE', target: `/api/tasks/${person.trashed}`, headers })
}

const missing = Number.MAX_SAFE_INTEGER

async function tryRoute(
  probe: Probe,
  admin: Postgres['admin'],
  route: string,
  { own, trashed = 404, query = '', body }: Rule,
): Promise<void> {
  const [alice, bob] = [await newPerson(probe), await newPerson(probe)]
  const [verb = '', pattern = ''] = route.split(' ')
  const refused = await refusedTokens(alice)
  const isAboutTask = pattern.includes(':id')
  const targets = isAboutTask
    ? (['alice live', 'alice trashed', 'bob live', 'bob trashed', 'missing'] as const)
    : (['all'] as const)

  /** By rule: whose token, whose path, whose task, in this order. */
  function expectedStatus(
    caller: Person | undefined,
    under: Person | undefined,
    target: (typeof targets)[number],
  ): number {
    if (caller === undefined) return 401
    if (under !== undefined && under !== caller) return 403
    if (target === 'all') return own
    if (target === 'missing') return 404
    const status = target.endsWith('live') ? own : trashed
    const isOwn = target.startsWith(caller === alice ? 'alice' : 'bob')
    // What a route would not find of one's own, it does not find of another's.
    return isOwn || status === 404 ? status : 403
  }

  async function tryCase(
    dialect: string,
    method: string,
    authorization: string | undefined,
    caller: Person | undefined,
    under: Person | undefined,
    target: (typeof targets)[number],
  ) {
    const ids = {
      'alice live': alice.live,
      'alice trashed': alice.trashed,
      'bob live': bob.live,
      'bob trashed': bob.trashed,
      missing,
      all: missing,
    }
    const prefix = under ? `/api/${under.id}` : '/api'
    const path = `${dialect}${prefix}${pattern.replace(':id', String(ids[target]))}${query}`
    const what = `${method} ${dialect}${pattern} of ${target}, ${caller ? (caller === alice ? 'alice' : 'bob') : 'no'} token, ${under ? (under === alice ? 'under alice' : 'under bob') : 'plain'}`
    const before = { alice: await rowsOf(admin, alice.id), bob: await rowsOf(admin, bob.id) }
    const answer = await probe.attempt(
      what,
      {
        method,
        target: path,
        headers: { ...(authorization !== undefined && { authorization }) },
        ...(body && { body: JSON.stringify(body) }),
      },
      { expected: [inDialect(dialect, expectedStatus(caller, under, target))] },
    )
    const after = { alice: await rowsOf(admin, alice.id), bob: await rowsOf(admin, bob.id) }
    const isDone =
      answer !== undefined && answer.status < 300 && method !== 'GET' && method !== 'HEAD'
    for (const [name, person] of [
      ['alice', alice],
      ['bob', bob],
    ] as const) {
      if (before[name] !== after[name] && !(isDone && person === caller))
        probe.report.violation(`${what}: changed rows of ${name}`)
      const told = `${[...(answer?.headers ?? [])].join('\n')}${answer?.text}`
      if (person !== caller && told.includes(person.mark))
        probe.report.violation(`${what}: told of ${name}’s tasks`)
    }
    if (isDone && caller) await settle(probe, caller)
  }

  for (const dialect of ['', '/compat/tasks'])
    for (const method of verb === 'GET' ? ['GET', 'HEAD'] : [verb])
      for (const under of [undefined, alice, bob])
        for (const target of targets) {
          for (const caller of [alice, bob])
            await tryCase(dialect, method, `Bearer ${caller.token}`, caller, under, target)
          for (const authorization of refused)
            await tryCase(dialect, method, authorization, undefined, under, target)
        }
}

/** A dialect has a body for every answer. */
function inDialect(dialect: string, status: number): number {
  return dialect !== '' && status === 204 ? 200 : status
}

/** What is no token of alice's, though it looks like one. */
async function refusedTokens({ id, token }: User): Promise<(string | undefined)[]> {
  const [head, claims, signature] = token.split('.')
  const none = Buffer.from('{"alg":"none"}').toString('base64url')
  return [
    undefined,
    `Basic ${Buffer.from(`${id}:`).toString('base64')}`,
    `Bearer ${await tokenFor(id, { exp: Math.floor(Date.now() / 1000) - 60 })}`,
    `Bearer ${await tokenFor(id, {}, { key: 'another secret of 32 characters and more' })}`,
    `Bearer ${none}.${claims}.`,
    `Bearer ${none}.${claims}.${signature}`,
    `Bearer ${head}.${Buffer.from(JSON.stringify({ sub: id, exp: 4e9 })).toString('base64url')}.${signature}`,
  ]
}

/** What was given to one user is worth nothing to another. */
async function tryBorrowing(probe: Probe): Promise<void> {
  const [alice, bob] = [await newPerson(probe), await newPerson(probe)]
  const as = ({ token }: User, more: Record<string, string> = {}) => ({
    authorization: `Bearer ${token}`,
    ...more,
  })
  for (const person of [alice, bob]) await settle(probe, person)
  const page = await probe.ask({ target: '/api/tasks?limit=1', headers: as(alice) })
  const next = /<([^>]+)>/.exec(page.headers.get('link') ?? '')?.[1] ?? ''
  const since = page.headers.get('sync-token') ?? ''
  const tag = page.headers.get('etag') ?? ''
  const keyed = {
    method: 'POST',
    target: '/api/tasks',
    body: JSON.stringify({ title: alice.mark }),
  }
  const key = { 'idempotency-key': crypto.randomUUID() }
  await probe.ask({ ...keyed, headers: as(alice, key) })

  const cases = [
    ['a cursor', { target: next, headers: as(bob) }, 422],
    ['a sync token', { target: `/api/tasks/changes?since=${since}`, headers: as(bob) }, 422],
    [
      'a list’s ETag',
      { target: '/api/tasks?limit=1', headers: as(bob, { 'if-none-match': tag }) },
      200,
    ],
    [
      'a version',
      {
        method: 'PUT',
        target: `/api/tasks/${alice.live}`,
        headers: as(bob, { 'if-match': '"1"' }),
        body: '{"title":"x"}',
      },
      403,
    ],
    [
      'a wrong version',
      {
        method: 'PUT',
        target: `/api/tasks/${alice.live}`,
        headers: as(bob, { 'if-match': '"9"' }),
        body: '{"title":"x"}',
      },
      403,
    ],
    ['a key', { ...keyed, headers: as(bob, key) }, 201],
  ] as const
  for (const [what, message, status] of cases) {
    const answer = await probe.attempt(`${what} of another user’s`, message, { expected: [status] })
    if (answer?.headers.has('idempotent-replayed'))
      probe.report.violation(`${what} of another user’s: their answer was given again`)
    if (status !== 201 && answer?.text.includes(alice.mark))
      probe.report.violation(`${what} of another user’s: told of their tasks`)
  }
}

/** A stream tells of its own user’s changes, and of nobody else's. */
async function tryStreams(probe: Probe, origin: string): Promise<void> {
  const [alice, bob] = [await newPerson(probe), await newPerson(probe)]
  const stream = await openEvents(`${origin}/api/tasks/events`, {
    authorization: `Bearer ${bob.token}`,
  })
  for (const person of [alice, bob, alice, bob]) await settle(probe, person)
  const last = `{"id":${bob.trashed}}`
  await eventually('bob’s stream tells of bob’s changes', async () =>
    stream.events.some(({ data }) => JSON.stringify(data) === last),
  )
  stream.close()
  probe.report.count('isolation cases')
  if (JSON.stringify(stream.events).includes(alice.mark))
    probe.report.violation('a stream told of another user’s tasks')
}
