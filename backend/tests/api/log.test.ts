import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { DatabaseUnavailable } from '../../db/failures.ts'
import { startAuthServer } from '../support/auth-server.ts'
import {
  databaseThat,
  frontEnd,
  newUser,
  startApi,
  tokenFor,
  type RequestOptions,
} from '../support/api.ts'

type Line = { level: number; msg?: string; request_id?: string; route?: string; code?: string }

const authServer = startAuthServer()
const api = startApi({ settings: { BETTER_AUTH_URL: authServer.url } })
let user: { id: string; token: string }
beforeAll(async () => {
  user = await authServer.signUp()
})
afterAll(async () => {
  await Promise.all([api.stop(), authServer.stop()])
})

type Api = Pick<ReturnType<typeof startApi>, 'request' | 'lines'>

/** Sends a request and waits for its line, which is written after the answer has gone out. */
async function send(
  { request, lines }: Api,
  method: string,
  path: string,
  options: RequestOptions = {},
) {
  const id = crypto.randomUUID()
  const headers = { 'x-request-id': id, ...options.headers }
  const { status } = await request(method, path, { ...options, headers })
  for (;;) {
    const mine = lines.map((line) => JSON.parse(line) as Line).filter((l) => l.request_id === id)
    const line = mine.find((found) => 'status' in found)
    if (line) return { status, line, reasons: mine.filter((found) => found !== line) }
    await Bun.sleep(2)
  }
}

describe('a refused token', () => {
  const seconds = () => Math.floor(Date.now() / 1000)

  async function reasonOf(server: Api, token: string): Promise<string | undefined> {
    const { status, line, reasons } = await send(server, 'GET', '/api/tasks', { token })
    expect(status).toBe(401)
    expect(line).toMatchObject({ code: 'token_invalid', route: '/api/tasks' })
    expect(reasons).toHaveLength(1)
    expect(reasons[0]).toMatchObject({ level: 40, code: 'token_invalid', route: '/api/tasks' })
    for (const part of token.split('.').filter((text) => text.length > 20))
      expect(server.lines.join('')).not.toContain(part)
    return reasons[0]!.msg
  }

  const other = 'another secret that nobody shares here'
  const cases: [string, () => Promise<string>][] = [
    [
      'HS256 signature does not match BETTER_AUTH_SECRET',
      async () => tokenFor('alice', {}, { key: other }),
    ],
    [
      "not a JWT: is it Better Auth's session token?",
      async () => 'm1xT0kenOfTheSessi0nThatBetterAuth.hasInItsCookie%3D',
    ],
    ['missing required "exp" claim', async () => tokenFor('alice', { exp: undefined })],
    ['sub is not text of 1 to 255 characters', async () => tokenFor('')],
    [
      "nbf is later than this server's clock",
      async () => tokenFor('alice', { nbf: seconds() + 60 }),
    ],
    [
      'alg HS512 is not one of HS256, EdDSA, Ed25519, ES256, RS256, PS256',
      async () => tokenFor('alice', {}, { alg: 'HS512', key: other.repeat(2) }),
    ],
    [
      `alg ?[31m${'x'.repeat(95)} is not one of HS256, EdDSA, Ed25519, ES256, RS256, PS256`,
      async () => {
        const header = JSON.stringify({ alg: `\u001b[31m${'x'.repeat(500)}` })
        return `${Buffer.from(header).toString('base64url')}.e30.e30`
      },
    ],
    ['longer than 16384 characters', async () => 'x'.repeat(20_000)],
    [
      `EdDSA signature does not match the keys at ${authServer.url}/api/auth/jwks`,
      async () => `${user.token.slice(0, -8)}AAAAAAAA`,
    ],
  ]
  test.each(cases)('%s: the log says so, and nothing of the token', async (reason, make) => {
    expect(await reasonOf(api, await make())).toBe(reason)
  })

  test('is logged as of another iss or aud, or as of another key', async () => {
    const here = authServer.url
    const there = here.replace('localhost', '127.0.0.1')
    const byAddress = startApi({ settings: { BETTER_AUTH_URL: there } })
    expect(await reasonOf(byAddress, user.token)).toBe(`iss ${here} is not ${there}`)
    await byAddress.stop()

    const audience = 'https://api.example'
    const forOthers = startApi({
      settings: { BETTER_AUTH_URL: here, BETTER_AUTH_AUDIENCE: audience },
    })
    expect(await reasonOf(forOthers, user.token)).toBe(`aud ${here} is not ${audience}`)
    await forOthers.stop()

    const elsewhere = startAuthServer()
    const stranger = await elsewhere.signUp()
    expect(await reasonOf(api, stranger.token)).toBe(
      `the kid is not among the keys at ${here}/api/auth/jwks`,
    )
    await elsewhere.stop()
  })

  test('of a family that is not configured names the setting', async () => {
    const hs256Only = startApi()
    expect(await reasonOf(hs256Only, user.token)).toBe(
      'EdDSA token, but BETTER_AUTH_URL is not set',
    )
    await hs256Only.stop()
    const keySetOnly = startApi({
      settings: { BETTER_AUTH_URL: authServer.url, BETTER_AUTH_SECRET: '' },
    })
    expect(await reasonOf(keySetOnly, await tokenFor('alice'))).toBe(
      'HS256 token, but BETTER_AUTH_SECRET is not set',
    )
    await keySetOnly.stop()
  })

  test('is logged once a second for each reason, however many come', async () => {
    const strangers = startApi()
    const began = performance.now()
    const answers = await Promise.all(
      Array.from({ length: 60 }, async (_, n) =>
        send(strangers, 'GET', '/api/tasks', {
          token: n % 2 === 0 ? 'garbage' : await tokenFor('alice', {}, { key: other }),
        }),
      ),
    )
    const most = Math.ceil((performance.now() - began) / 1_000)
    const told = answers.flatMap(({ reasons }) => reasons.map(({ msg }) => msg))
    expect(new Set(told).size).toBe(2)
    expect(told.length).toBeLessThanOrEqual(2 * most)
    expect(answers.every(({ line }) => line.code === 'token_invalid')).toBe(true)
    await strangers.stop()
  })
})

describe('a line of a request', () => {
  test('that failed has its code', async () => {
    const { id, token } = await newUser()
    const headers = { 'content-type': 'application/json' }
    const failing: [string, string, RequestOptions, number, string][] = [
      ['GET', '/api/tasks', {}, 401, 'token_missing'],
      ['GET', `/api/not-${id}/tasks`, { token }, 403, 'wrong_user'],
      ['GET', '/api/tasks/9007199254740991', { token }, 404, 'task_not_found'],
      ['HEAD', '/api/tasks/9007199254740991', { token }, 404, 'task_not_found'],
      ['GET', '/nothing', {}, 404, 'route_not_found'],
      ['DELETE', '/health', {}, 405, 'method_not_allowed'],
      ['POST', '/api/tasks', { token, body: '{', headers }, 422, 'malformed_json'],
      ['GET', '/api/tasks?limit=0', { token }, 422, 'validation_failed'],
    ]
    for (const [method, path, options, status, code] of failing)
      expect((await send(api, method, path, options)).line).toMatchObject({ status, code })
    expect((await send(api, 'GET', '/api/tasks', { token })).line).not.toHaveProperty('code')
  })

  test('that is 404 has its path in development, and nowhere else', async () => {
    const path = '/api/todos/7'
    const { token } = await newUser()
    const { line } = await send(api, 'GET', `${path}?ticket=secret`, { token })
    expect(line).toMatchObject({ status: 404, path })
    const missing = '/compat/tasks/api/todos/9007199254740991'
    expect((await send(api, 'GET', missing, { token })).line).toMatchObject({ path: missing })
    const production = startApi({
      settings: { NODE_ENV: 'production', DATABASE_URL: 'postgres://u:p@127.0.0.1/d' },
    })
    const told = await send(production, 'GET', path, { token })
    expect(told.line).toMatchObject({ status: 404 })
    expect(told.line).not.toHaveProperty('path')
    await production.stop()
  })
})

describe('a refused origin', () => {
  test.each(['GET', 'OPTIONS'])('is named to the operator, on %s', async (method) => {
    const pages = startApi()
    const origin = 'http://localhost:3001'
    const { reasons } = await send(pages, method, '/api/tasks', { headers: { origin } })
    expect(reasons.map(({ msg }) => msg)).toEqual([`${origin} is not in CORS_ORIGINS`])
    await pages.stop()
  })

  test('is neither one that may call nor this server’s own page', async () => {
    for (const origin of [frontEnd, api.origin])
      expect(await send(api, 'GET', '/health', { headers: { origin } })).toMatchObject({
        reasons: [],
      })
  })
})

describe('while the database is away', () => {
  test('every request has its line, and only the first has a stack', async () => {
    const away = startApi({
      over: databaseThat(async () => {
        throw new DatabaseUnavailable('ECONNREFUSED: nobody is there', 'ECONNREFUSED')
      }),
    })
    const { token } = await newUser()
    const sent = await Promise.all(
      Array.from({ length: 40 }, async () => send(away, 'GET', '/api/tasks', { token })),
    )
    for (const { line } of sent)
      expect(line).toMatchObject({ status: 503, code: 'database_unavailable' })
    const reasons = sent.flatMap((each) => each.reasons)
    expect(reasons).toMatchObject([{ level: 50, msg: 'request failed', route: '/api/tasks' }])
    expect(away.lines).toHaveLength(41)
    await away.stop()
  })
})
