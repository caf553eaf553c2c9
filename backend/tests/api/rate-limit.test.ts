import { afterEach, describe, expect, test } from 'bun:test'
import { failures } from '../../http/failures.ts'
import { createRateLimits } from '../../http/rate-limit.ts'
import { frontEnd, newUser, rowsOf, startApi, tokenFor, type Answer } from '../support/api.ts'
import { openEvents } from '../support/events.ts'

let time = Date.now()
const servers: ReturnType<typeof startApi>[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(async ({ stop }) => stop()))
})

function startLimited(settings: Record<string, string>) {
  const api = startApi({ settings, now: () => time })
  servers.push(api)
  return api
}

const limitsOf = ({ status, headers }: Answer) => ({
  status,
  policy: headers.get('ratelimit-policy'),
  limit: headers.get('ratelimit'),
  retryAfter: headers.get('retry-after'),
})

function expectLimited(answer: Answer): void {
  expect(answer.status).toBe(429)
  expect(answer.body).toEqual({
    detail: failures.rate_limited.detail,
    code: 'rate_limited',
    request_id: answer.headers.get('x-request-id'),
  })
  expect(answer.headers.get('content-type')).toBe('application/json')
}

describe('a user', () => {
  test('is told what is left, is refused at its end, and gets it back evenly', async () => {
    const api = startLimited({ RATE_LIMIT_PER_USER: '3' })
    const { id, token } = await newUser()
    const create = async () =>
      api.request('POST', '/api/tasks', {
        token,
        json: { title: 'Counted' },
        headers: { origin: frontEnd },
      })
    const policy = '"user";q=3;w=60'
    const retryAfter = null
    expect(limitsOf(await create())).toEqual({
      status: 201,
      policy,
      limit: '"user";r=2;t=20',
      retryAfter,
    })
    time += 5_000
    expect(limitsOf(await create())).toEqual({
      status: 201,
      policy,
      limit: '"user";r=1;t=15',
      retryAfter,
    })
    expect(limitsOf(await create())).toEqual({
      status: 201,
      policy,
      limit: '"user";r=0;t=15',
      retryAfter,
    })
    time += 1_500
    const refused = await create()
    expectLimited(refused)
    expect(limitsOf(refused)).toEqual({
      status: 429,
      policy,
      limit: '"user";r=0;t=14',
      retryAfter: '14',
    })
    expect(refused.headers.get('access-control-allow-origin')).toBe(frontEnd)
    expect(refused.headers.get('access-control-expose-headers')).toContain('RateLimit-Policy')
    expect(await rowsOf(id)).toHaveLength(3)

    time += 14_000
    expect((await create()).status).toBe(201)
    expectLimited(await create())
    time += 60_000
    for (let request = 0; request < 3; request += 1) expect((await create()).status).toBe(201)
    expectLimited(await create())
  })

  test('is not extended by requests that are refused', async () => {
    const api = startLimited({ RATE_LIMIT_PER_USER: '1' })
    const { token } = await newUser()
    expect((await api.request('GET', '/api/tasks', { token })).status).toBe(200)
    for (let second = 0; second < 59; second += 1) {
      time += 1_000
      expectLimited(await api.request('GET', '/api/tasks', { token }))
    }
    time += 1_000
    expect((await api.request('GET', '/api/tasks', { token })).status).toBe(200)
  })

  test('has one quota for all tokens, routes and failures, and shares it with nobody', async () => {
    const api = startLimited({ RATE_LIMIT_PER_USER: '4' })
    const { id, token } = await newUser()
    const other = await newUser()
    const anotherToken = await tokenFor(id, { device: 'phone' })
    expect((await api.request('GET', '/api/tasks', { token })).status).toBe(200)
    expect((await api.request('GET', `/api/${id}/tasks`, { token: anotherToken })).status).toBe(200)
    expect((await api.request('POST', '/api/tasks', { token, json: {} })).status).toBe(422)
    expect((await api.request('GET', '/api/somebody/tasks', { token })).status).toBe(403)
    expectLimited(await api.request('GET', '/api/tasks', { token: anotherToken }))
    expect((await api.request('GET', '/api/tasks', other)).status).toBe(200)
  })

  test('is refused before the body is read', async () => {
    const api = startLimited({ RATE_LIMIT_PER_USER: '1' })
    const { token } = await newUser()
    await api.request('GET', '/api/tasks', { token })
    expectLimited(await api.request('POST', '/api/tasks', { token, body: 'x'.repeat(100_000) }))
  })

  test('spends one request on a stream of events, however long it is open', async () => {
    const api = startLimited({ RATE_LIMIT_PER_USER: '3' })
    const { token } = await newUser()
    const stream = await openEvents(`${api.origin}/api/tasks/events`, {
      authorization: `Bearer ${token}`,
    })
    expect(stream.headers.get('ratelimit')).toBe('"user";r=2;t=20')
    await api.request('POST', '/api/tasks', { token, json: { title: 'Seen' } })
    await stream.received(1)
    const { headers } = await api.request('GET', '/api/tasks', { token })
    expect(headers.get('ratelimit')).toBe('"user";r=0;t=20')
    expectLimited(await api.request('GET', '/api/tasks/events', { token }))
    stream.close()
    await stream.ended
  })
})

describe('an address', () => {
  test('is limited before its tokens are looked at', async () => {
    const api = startLimited({ RATE_LIMIT_PER_ADDRESS: '2' })
    for (const left of [1, 0]) {
      const answer = await api.request('GET', '/api/tasks', { token: `bad-${left}` })
      expect(limitsOf(answer)).toEqual({
        status: 401,
        policy: '"address";q=2;w=60',
        limit: `"address";r=${left};t=30`,
        retryAfter: null,
      })
    }
    const answer = await api.request('GET', '/api/tasks', {
      ...(await newUser()),
      headers: { origin: frontEnd },
    })
    expectLimited(answer)
    expect(limitsOf(answer)).toMatchObject({ limit: '"address";r=0;t=30', retryAfter: '30' })
    expect(answer.headers.get('access-control-allow-origin')).toBe(frontEnd)
  })

  test('and its user are both reported, and either can refuse', async () => {
    const api = startLimited({ RATE_LIMIT_PER_ADDRESS: '3', RATE_LIMIT_PER_USER: '1' })
    const { token } = await newUser()
    const policy = '"address";q=3;w=60, "user";q=1;w=60'
    expect(limitsOf(await api.request('GET', '/api/tasks', { token }))).toMatchObject({
      policy,
      limit: '"address";r=2;t=20, "user";r=0;t=60',
    })
    const byUser = await api.request('GET', '/api/tasks', { token })
    expectLimited(byUser)
    expect(limitsOf(byUser)).toMatchObject({
      policy,
      limit: '"address";r=1;t=20, "user";r=0;t=60',
      retryAfter: '60',
    })
    expect((await api.request('GET', '/api/tasks', await newUser())).status).toBe(200)
    const byAddress = await api.request('GET', '/api/tasks', await newUser())
    expectLimited(byAddress)
    expect(byAddress.headers.get('retry-after')).toBe('20')
  })

  test('is not limited in probes and preflights', async () => {
    const api = startLimited({ RATE_LIMIT_PER_ADDRESS: '1' })
    expect((await api.request('GET', '/nope')).status).toBe(404)
    expectLimited(await api.request('GET', '/docs'))
    expectLimited(await api.request('GET', '/nope?path=/health'))
    const preflight = { origin: frontEnd, 'access-control-request-method': 'GET' }
    for (let request = 0; request < 3; request += 1) {
      expect((await api.request('GET', '/health')).status).toBe(200)
      expect((await api.request('GET', '/ready?probe')).status).toBe(200)
      expect((await api.request('OPTIONS', '/api/tasks', { headers: preflight })).status).toBe(204)
    }
  })
})

describe('X-Forwarded-For', () => {
  const forwarded = (addresses: string) => ({ headers: { 'x-forwarded-for': addresses } })

  /** Whether the two are counted as one client. */
  async function areOne(first: string, second: string, settings = {}): Promise<boolean> {
    const api = startLimited({
      RATE_LIMIT_PER_ADDRESS: '1',
      TRUSTED_PROXIES: '127.0.0.1, 10.0.0.0/8, fd00::/8',
      ...settings,
    })
    expect((await api.request('GET', '/nope', forwarded(first))).status).toBe(404)
    return (await api.request('GET', '/nope', forwarded(second))).status === 429
  }

  test.each([
    ['192.0.2.1', '192.0.2.2'],
    ['192.0.2.1', '192.0.2.2, 10.1.2.3'],
    ['192.0.2.1, 10.1.2.3', '192.0.2.2, fd00::7, 10.1.2.3'],
    ['2001:db8:0:1::1', '2001:db8:0:2::1'],
    ['2001:db8::1', '192.0.2.1'],
    ['::ffff:c633:6404', '::ffff:c633:6405'],
    ['::c633:6404', '198.51.100.4'],
  ])('of a trusted proxy tells clients apart: %s and %s', async (first, second) => {
    expect(await areOne(first, second)).toBe(false)
  })

  test.each([
    ['what the client itself wrote', '198.51.100.1, 192.0.2.1', '198.51.100.2, 192.0.2.1'],
    ['a forged proxy before it', '10.0.0.1, 192.0.2.1', '10.0.0.2, 192.0.2.1'],
    ['the way through proxies', '192.0.2.1', '192.0.2.1, 10.1.2.3, fd00::7'],
    ['a port', '192.0.2.1:4711', '192.0.2.1:4712'],
    ['spaces', '192.0.2.1', '  192.0.2.1  '],
    ['the host in an IPv6 network', '2001:db8:0:1::1', '2001:db8:0:1:ffff:ffff:ffff:ffff'],
    ['how IPv6 is written', '2001:db8::1', '[2001:0DB8:0:0:5:6:7:8]:443'],
    ['IPv4 written as IPv6', '192.0.2.1', '::ffff:192.0.2.1'],
    ['IPv4 written as IPv6 in hexadecimal', '198.51.100.4', '::ffff:c633:6404'],
    ['IPv4 written as IPv6 in full', '198.51.100.4', '[0:0:0:0:0:FFFF:C633:6404]:443'],
    ['a proxy in hexadecimal', '198.51.100.4', '198.51.100.4, ::ffff:a01:203'],
    ['what is no address', 'unknown', 'x, nonsense'],
    ['what comes before something that is no address', '192.0.2.1, unknown', '192.0.2.2, unknown'],
    ['which proxies there are', '10.0.0.1, 10.0.0.2', '10.0.0.1, 10.0.0.3'],
    ['nothing', '', ','],
  ])('of a trusted proxy is one client apart from %s', async (_, first, second) => {
    expect(await areOne(first, second)).toBe(true)
  })

  test.each([
    ['there are no trusted proxies', ''],
    ['the proxy is not one of them', '10.0.0.0/8'],
  ])('is not believed where %s', async (_, proxies) => {
    expect(await areOne('192.0.2.1', '192.0.2.2', { TRUSTED_PROXIES: proxies })).toBe(true)
  })
})

describe('memory', () => {
  const heap = () => {
    Bun.gc(true)
    return process.memoryUsage().heapUsed
  }

  test('a million addresses take no more of it than a hundred thousand', () => {
    const { limitAddress } = createRateLimits({ perAddress: 3_000 }, () => time)
    const flood = (from: number, count: number) => {
      for (let index = from; index < from + count; index += 1)
        limitAddress!(`2001:db8:${index.toString(16)}:0`, {})
    }
    flood(0, 100_000)
    const before = heap()
    flood(100_000, 900_000)
    expect(heap() - before).toBeLessThan(8 * 1024 * 1024)
    limitAddress!('the limits are still in use', {})
  })

  test('a flood from others does not restore a quota that somebody has used up', () => {
    const { limitAddress } = createRateLimits({ perAddress: 2 }, () => time)
    const ask = () => limitAddress!('192.0.2.1', {})
    ask()
    ask()
    for (let index = 0; index < 300_000; index += 1) {
      limitAddress!(`10.0.${index}`, {})
      if (index % 30_000 === 0) expect(ask).toThrow(failures.rate_limited.detail)
    }
    expect(ask).toThrow(failures.rate_limited.detail)
  })

  test('a window that has passed is forgotten without being missed', () => {
    const { limitUser } = createRateLimits({ perUser: 2 }, () => time)
    const ask = () => limitUser('somebody', {})
    ask()
    time += 59_000
    ask()
    limitUser('another', {})
    time += 2_000 // a new generation; what is left of the quota is in the one before
    ask()
    expect(ask).toThrow(failures.rate_limited.detail)
  })
})

test('without settings nothing is limited, and no header says so', async () => {
  const api = startLimited({})
  const { token } = await newUser()
  const { headers } = await api.request('GET', '/api/tasks', { token })
  expect(headers.get('ratelimit')).toBeNull()
  expect(headers.get('ratelimit-policy')).toBeNull()
})

/** Sums of intervals such as 60000 / 7 are not whole numbers. */
test.each([1, 7, 600, 3_000, 9_999])('a quota of %d is %d requests, not one less', (quota) => {
  const { limitUser } = createRateLimits({ perUser: quota }, () => time)
  for (let request = 1; request <= quota; request += 1) {
    const headers: Record<string, string> = {}
    limitUser('somebody', headers)
    expect(headers['ratelimit']).toContain(`r=${quota - request};`)
  }
  expect(() => limitUser('somebody', {})).toThrow(failures.rate_limited.detail)
})
