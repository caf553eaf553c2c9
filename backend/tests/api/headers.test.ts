import { afterAll, describe, expect, test } from 'bun:test'
import { frontEnd, newUser, startApi, type TaskBody } from '../support/api.ts'

const api = startApi({ settings: { CORS_ORIGINS: `${frontEnd}, https://app.example.com/` } })
afterAll(api.stop)

describe('X-Request-Id', () => {
  test.each(['a', 'A-z_0.9', 'x'.repeat(128)])('a well-formed one is kept: %p', async (id) => {
    const { headers } = await api.request('GET', '/health', { headers: { 'x-request-id': id } })
    expect(headers.get('x-request-id')).toBe(id)
  })

  test.each(['', ' ', 'x'.repeat(129), 'a b', 'a,b', 'a/b', 'ü'])(
    'another is replaced: %p',
    async (id) => {
      const encoded = Buffer.from(id).toString('latin1')
      const { headers } = await api.request('GET', '/health', {
        headers: { 'x-request-id': encoded },
      })
      expect(headers.get('x-request-id')).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    },
  )

  test('it is in the body of an error, in the log, and different each time', async () => {
    const first = await api.request<{ request_id: string }>('GET', '/nope')
    const second = await api.request<{ request_id: string }>('GET', '/nope')
    expect(first.body.request_id).toBe(first.headers.get('x-request-id')!)
    expect(first.body.request_id).not.toBe(second.body.request_id)
    expect(api.lines.join('')).toContain(first.body.request_id)
  })
})

describe('CORS', () => {
  const exposed =
    'ETag, Link, Location, X-Total-Count, Sync-Token, Retry-After, RateLimit, RateLimit-Policy, Idempotent-Replayed, WWW-Authenticate, X-Request-Id'

  test.each([frontEnd, 'https://app.example.com'])(
    'a preflight from %s is answered',
    async (origin) => {
      const { status, headers, text } = await api.request('OPTIONS', '/api/tasks/1', {
        headers: {
          origin,
          'access-control-request-method': 'PUT',
          'access-control-request-headers': 'authorization,content-type,x-evil',
        },
      })
      expect({ status, text }).toEqual({ status: 204, text: '' })
      expect(headers.get('access-control-allow-origin')).toBe(origin)
      expect(headers.get('access-control-allow-credentials')).toBe('true')
      expect(headers.get('access-control-allow-methods')).toBe(
        'GET, POST, PUT, DELETE, PATCH, OPTIONS',
      )
      expect(headers.get('access-control-allow-headers')).toBe(
        'Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, X-Request-Id, MCP-Protocol-Version, Mcp-Method, Mcp-Name',
      )
      expect(headers.get('access-control-max-age')).toBe('600')
      expect(headers.get('vary')).toBe('Origin')
      expect(headers.get('x-request-id')).toBeTruthy()
    },
  )

  test('an answer lets the page read it', async () => {
    const { token } = await newUser()
    const { headers } = await api.request('GET', '/api/tasks', {
      token,
      headers: { origin: frontEnd },
    })
    expect(headers.get('access-control-allow-origin')).toBe(frontEnd)
    expect(headers.get('access-control-allow-credentials')).toBe('true')
    expect(headers.get('access-control-expose-headers')).toBe(exposed)
    expect(headers.get('set-cookie')).toBeNull()
  })

  test.each([
    'http://localhost:3001',
    'https://localhost:3000',
    'http://localhost:3000.evil.example',
    'http://evil.example/?http://localhost:3000',
    'localhost:3000',
    'null',
    '*',
  ])('the origin %s is not let in', async (origin) => {
    for (const method of ['OPTIONS', 'GET']) {
      const { headers } = await api.request(method, '/api/tasks', {
        headers: { origin, 'access-control-request-method': 'GET' },
      })
      expect(headers.get('access-control-allow-origin')).toBeNull()
      expect(headers.get('vary')).toBe(method === 'GET' ? 'Authorization, Origin' : 'Origin')
    }
  })
})

describe('the log', () => {
  test('has one line per request, with its route and never what the user typed', async () => {
    const { id: user, token } = await newUser()
    const headers = { 'x-request-id': 'log-test', origin: frontEnd }
    const {
      request,
      lines: written,
      stop,
    } = startApi({
      settings: { NODE_ENV: 'production', DATABASE_URL: 'postgres://u:p@127.0.0.1/d' },
    })
    const title = 'a very private title'
    const { body } = await request<TaskBody>('POST', `/api/${user}/tasks`, {
      token,
      json: { title },
      headers,
    })
    await request('GET', `/api/tasks/${body.id}`, { token, headers })
    await request('GET', '/api/tasks?status=a-very-private-title', { token, headers })
    await request('GET', `/nope/${title}`, { headers })
    await request('OPTIONS', '/api/tasks', { headers })
    const lines = await logged(written, 'log-test', 5)
    expect(lines).toEqual([
      line('POST', '/api/:user_id/tasks', 201),
      line('GET', '/api/tasks/:id', 200),
      line('GET', '/api/tasks', 422, 'validation_failed'),
      line('GET', null, 404, 'route_not_found'),
      {
        level: 30,
        time: expect.anything(),
        method: 'OPTIONS',
        status: 204,
        request_id: 'log-test',
      },
    ])
    const everything = written.join('\n')
    for (const secret of [token, user, 'private']) expect(everything).not.toContain(secret)
    await stop()
  })

  const line = (method: string, route: string | null, status: number, code?: string) => ({
    level: 30,
    time: expect.anything(),
    method,
    route,
    status,
    ...(code && { code }),
    ms: expect.any(Number),
    request_id: 'log-test',
  })

  /** A line is written after the answer has gone out. */
  async function logged(written: string[], requestId: string, count: number): Promise<object[]> {
    for (;;) {
      const lines = written.filter((text) => text.includes(`"${requestId}"`))
      if (lines.length >= count) return lines.map((text) => JSON.parse(text) as object)
      await Bun.sleep(5)
    }
  }
})
