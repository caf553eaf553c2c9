import { afterAll, describe, expect, test } from 'bun:test'
import { DatabaseUnavailable } from '../../db/failures.ts'
import {
  databaseThat,
  frontEnd,
  newUser,
  startApi,
  type RequestOptions,
  type TaskBody,
} from '../support/api.ts'
import { openEvents } from '../support/events.ts'

const limited = { RATE_LIMIT_PER_USER: '1' }
const api = startApi()
const strict = startApi({ settings: limited })
const broken = (error: unknown) =>
  startApi({
    over: databaseThat(async () => {
      throw error
    }),
  })
const faulty = broken(new Error('a fault of ours'))
const hopeless = broken(undefined)
const away = broken(new DatabaseUnavailable('ECONNREFUSED'))
afterAll(async () => {
  await Promise.all([api, strict, faulty, hopeless, away].map(async (each) => each.stop()))
})

const policy = "default-src 'none'; frame-ancestors 'none'"
const docsPolicy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

function expectSecured(headers: Headers, cacheControl: string, expectedPolicy = policy): void {
  expect({
    options: headers.get('x-content-type-options'),
    referrer: headers.get('referrer-policy'),
    cache: headers.get('cache-control'),
    policy: headers.get('content-security-policy'),
    transport: headers.get('strict-transport-security'),
  }).toEqual({
    options: 'nosniff',
    referrer: 'no-referrer',
    cache: cacheControl,
    policy: expectedPolicy,
    transport: null,
  })
}

describe('every answer', () => {
  test('with what is a user’s is kept by no shared cache: 200, 201, 204 and 304', async () => {
    const { token } = await newUser()
    const created = await api.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title: 'Secured' },
    })
    const path = `/api/tasks/${created.body.id}`
    const etag = created.headers.get('etag')!
    const answers = [
      created,
      await api.request('GET', '/api/tasks', { token }),
      await api.request('HEAD', path, { token }),
      await api.request('GET', path, { token, headers: { 'if-none-match': etag } }),
      await api.request('DELETE', path, { token }),
    ]
    expect(answers.map(({ status }) => status)).toEqual([201, 200, 200, 304, 204])
    for (const { headers } of answers) {
      expectSecured(headers, 'private, no-cache')
      expect(headers.get('vary')).toBe('Authorization, Origin')
    }
  })

  const failing: [number, string, string, typeof api, RequestOptions][] = [
    [401, 'GET', '/api/tasks', api, {}],
    [401, 'GET', '/api/no/such/route', api, {}],
    [404, 'GET', '/nope', api, {}],
    [405, 'POST', '/health', api, {}],
    [503, 'GET', '/ready', away, {}],
  ]
  test.each(failing)('%d to a stranger: %s %s', async (expected, method, path, server, options) => {
    const { status, headers } = await server.request(method, path, options)
    expect(status).toBe(expected)
    expectSecured(headers, 'no-store')
  })

  const toUsers: [number, string, string, typeof api, RequestOptions][] = [
    [403, 'GET', '/api/somebody/tasks', api, {}],
    [404, 'GET', '/api/tasks/9007199254740991', api, {}],
    [404, 'GET', '/api/nope', api, {}],
    [405, 'PATCH', '/api/tasks', api, {}],
    [413, 'POST', '/api/tasks', api, { body: 'x'.repeat(70_000) }],
    [415, 'POST', '/api/tasks', api, { body: 'x', headers: { 'content-type': 'text/plain' } }],
    [422, 'POST', '/api/tasks', api, { json: {} }],
    [
      422,
      'POST',
      '/api/tasks',
      api,
      { body: '{', headers: { 'content-type': 'application/json' } },
    ],
    [500, 'GET', '/api/tasks', faulty, {}],
    [500, 'GET', '/api/tasks', hopeless, {}],
    [503, 'GET', '/api/tasks', away, {}],
  ]
  test.each(toUsers)('%d to a user: %s %s', async (expected, method, path, server, options) => {
    const { token } = await newUser()
    const { status, headers } = await server.request(method, path, { token, ...options })
    expect(status).toBe(expected)
    expectSecured(headers, 'no-store')
  })

  test('429 to a user', async () => {
    const { token } = await newUser()
    await strict.request('GET', '/api/tasks', { token })
    const { status, headers } = await strict.request('GET', '/api/tasks', { token })
    expect(status).toBe(429)
    expectSecured(headers, 'no-store')
  })

  test.each(['/health', '/ready'])('200 to a probe: %s', async (path) => {
    const { status, headers } = await api.request('GET', path)
    expect(status).toBe(200)
    expectSecured(headers, 'no-store')
  })

  test('204 to a preflight', async () => {
    const { status, headers } = await api.request('OPTIONS', '/api/tasks', {
      headers: { origin: frontEnd, 'access-control-request-method': 'GET' },
    })
    expect(status).toBe(204)
    expectSecured(headers, 'no-store')
  })

  test('a stream of events, and what HEAD says of it', async () => {
    const { token } = await newUser()
    const stream = await openEvents(`${api.origin}/api/tasks/events`, {
      authorization: `Bearer ${token}`,
    })
    expectSecured(stream.headers, 'private, no-store')
    stream.close()
    await stream.ended
    const { headers } = await api.request('HEAD', '/api/tasks/events', { token })
    expectSecured(headers, 'private, no-store')
  })
})

describe('the documentation', () => {
  test.each([
    ['/docs', 'no-cache', docsPolicy],
    ['/docs/', 'no-cache', docsPolicy],
    ['/docs/start.js', 'no-cache', policy],
    ['/docs/page.css', 'public, max-age=3600', policy],
    ['/docs/swagger-ui.css', 'public, max-age=3600', policy],
    ['/docs/swagger-ui-bundle.js', 'public, max-age=3600', policy],
    ['/docs/favicon.png', 'public, max-age=3600', policy],
    ['/docs/json', 'no-cache', policy],
  ])('%s may run nothing but our own files', async (path, cacheControl, expectedPolicy) => {
    const { status, headers } = await api.request('GET', path)
    expect(status).toBe(200)
    expectSecured(headers, cacheControl, expectedPolicy)
    expect(headers.get('vary')).toBe('Origin')
  })
})

describe('Strict-Transport-Security', () => {
  const transportOf = async (
    settings: Record<string, string>,
    headers: Record<string, string>,
    path = '/health',
  ) => {
    const server = startApi({ settings })
    const answer = await server.request('GET', path, { headers })
    await server.stop()
    return answer.headers.get('strict-transport-security')
  }
  const https = { 'x-forwarded-proto': 'https' }
  const behindProxy = { TRUSTED_PROXIES: '127.0.0.1' }

  test.each(['/health', '/docs', '/api/tasks', '/nope'])(
    'it is sent if a trusted proxy says that the request came over TLS: %s',
    async (path) => {
      expect(await transportOf(behindProxy, https, path)).toBe('max-age=31536000')
    },
  )

  test.each([
    ['somebody says so who is no trusted proxy', {}, https],
    ['the proxy is another', { TRUSTED_PROXIES: '10.0.0.0/8' }, https],
    ['the request came over plain HTTP', behindProxy, { 'x-forwarded-proto': 'http' }],
    ['the proxy says nothing', behindProxy, {}],
  ])('it is not where %s', async (_, settings: Record<string, string>, headers) => {
    expect(await transportOf(settings, headers as Record<string, string>)).toBeNull()
  })
})
