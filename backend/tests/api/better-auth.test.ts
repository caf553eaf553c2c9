import { afterEach, describe, expect, test } from 'bun:test'
import { startAuthServer, type KeyAlgorithm } from '../support/auth-server.ts'
import { rowsOf, startApi, tokenFor, type TaskBody } from '../support/api.ts'

const running: { stop: () => Promise<void> }[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map(async (server) => server.stop()))
})

function start(algorithm?: KeyAlgorithm, now?: () => number) {
  const authServer = startAuthServer(algorithm)
  const api = startApi({ settings: { BETTER_AUTH_URL: authServer.url }, ...(now && { now }) })
  running.push(authServer, api)
  const statusFor = async (token: string) =>
    (await api.request('GET', '/api/tasks', { token })).status
  return { authServer, api, statusFor }
}

test('a user signs up at Better Auth and lives with their tasks', async () => {
  const { authServer, api } = start()
  const [alice, bob] = [await authServer.signUp(), await authServer.signUp()]
  const created = await api.request<TaskBody>('POST', '/api/tasks', {
    token: alice.token,
    json: { title: 'Buy milk', description: 'oat' },
  })
  expect(created.status).toBe(201)
  const one = `/api/tasks/${created.body.id}`
  expect((await api.request('GET', '/api/tasks', alice)).body).toEqual([created.body])
  expect((await api.request('GET', `/api/${alice.id}/tasks`, alice)).body).toEqual([created.body])
  expect((await api.request('GET', '/api/tasks', bob)).body).toEqual([])
  expect((await api.request('GET', one, bob)).status).toBe(403)
  const put = await api.request('PUT', one, { token: alice.token, json: { title: 'Buy oat milk' } })
  expect(put.body).toMatchObject({ title: 'Buy oat milk', description: 'oat' })
  expect((await api.request('PATCH', `${one}/complete`, alice)).body).toMatchObject({
    completed: true,
  })
  expect(await rowsOf(alice.id)).toMatchObject([{ title: 'Buy oat milk', completed: true }])
  expect((await api.request('DELETE', one, alice)).status).toBe(204)
  expect(await rowsOf(alice.id)).toEqual([])
})

test.each<KeyAlgorithm>(['EdDSA', 'ES256', 'RS256', 'PS256'])(
  'keys for %s work',
  async (algorithm) => {
    const { authServer, statusFor } = start(algorithm)
    const { token } = await authServer.signUp()
    expect(JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString())).toMatchObject({
      alg: algorithm,
    })
    expect(await statusFor(token)).toBe(200)
  },
)

test('the token of another auth server is refused', async () => {
  const { authServer, statusFor } = start()
  const other = start()
  const { token } = await other.authServer.signUp()
  await authServer.signUp()
  expect(await statusFor(token)).toBe(401)
})

test('iss and aud must be the auth server’s, unless the settings say otherwise', async () => {
  const { authServer } = start()
  const { token } = await authServer.signUp()
  const statusWith = async (settings: Record<string, string>) => {
    const api = startApi({ settings: { BETTER_AUTH_URL: authServer.url, ...settings } })
    running.push(api)
    return (await api.request('GET', '/api/tasks', { token })).status
  }
  expect(await statusWith({})).toBe(200)
  expect(await statusWith({ BETTER_AUTH_ISSUER: 'https://other.example' })).toBe(401)
  expect(await statusWith({ BETTER_AUTH_AUDIENCE: 'https://other.example' })).toBe(401)
  expect(await statusWith({ BETTER_AUTH_URL: `${authServer.url}/` })).toBe(200)
  expect(
    await statusWith({ BETTER_AUTH_ISSUER: authServer.url, BETTER_AUTH_AUDIENCE: authServer.url }),
  ).toBe(200)
})

test('the set of keys is read once, not per request', async () => {
  const { authServer, statusFor } = start()
  const users = await Promise.all(Array.from({ length: 10 }, async () => authServer.signUp()))
  const statuses = await Promise.all(users.map(async ({ token }) => statusFor(token)))
  expect(new Set(statuses)).toEqual(new Set([200]))
  expect(authServer.keySetRequests()).toBe(1)
})

describe('rotation', () => {
  test('a new key is found without a restart', async () => {
    const { authServer, statusFor } = start()
    const before = await authServer.signUp()
    expect(await statusFor(before.token)).toBe(200)
    authServer.rotateKeys()
    const after = await authServer.signUp()
    // The set is read again at once, though it was read only just now.
    expect(await statusFor(after.token)).toBe(200)
    expect(await statusFor(before.token)).toBe(200) // remembered: it was good when it was seen
  })

  test('a key that was taken out stops working once the set is read again', async () => {
    let time = Date.now()
    const { authServer, statusFor } = start('EdDSA', () => time)
    const [seen, unseen] = [await authServer.signUp(), await authServer.signUp()]
    expect(await statusFor(seen.token)).toBe(200)
    authServer.rotateKeys()
    await authServer.signUp()
    time += 11 * 60_000
    await settled(async () => (await statusFor(seen.token)) === 401)
    expect(await statusFor(unseen.token)).toBe(401)
  })
})

describe('while the auth server is away', () => {
  test('known keys go on working, for tokens seen and unseen', async () => {
    const { authServer, statusFor } = start()
    const [seen, unseen] = [await authServer.signUp(), await authServer.signUp()]
    expect(await statusFor(seen.token)).toBe(200)
    await authServer.stop()
    expect(await statusFor(seen.token)).toBe(200)
    expect(await statusFor(unseen.token)).toBe(200)
    authServer.restart()
  })

  test('known keys go on working even when it is time to read them again', async () => {
    let time = Date.now()
    const { authServer, statusFor } = start('EdDSA', () => time)
    const [first, second, third] = [
      await authServer.signUp(),
      await authServer.signUp(),
      await authServer.signUp(),
    ]
    expect(await statusFor(first.token)).toBe(200)
    await authServer.stop()
    time += 11 * 60_000
    expect(await statusFor(second.token)).toBe(200)
    expect(await statusFor(third.token)).toBe(200)
    authServer.restart()
  })

  test('an unknown key is 503, not 401, and service is back when the auth server is', async () => {
    const { authServer, api, statusFor } = start()
    const { token } = await authServer.signUp()
    await authServer.stop()
    const { status, headers, body } = await api.request('GET', '/api/tasks', { token })
    expect(status).toBe(503)
    expect(body).toEqual({
      detail: 'The sign-in server cannot be reached right now; try again shortly',
      code: 'auth_unavailable',
      request_id: headers.get('x-request-id'),
    })
    expect(headers.get('retry-after')).toBe('1')
    expect(headers.get('www-authenticate')).toBeNull()
    expect(await statusFor(await tokenFor('hs256'))).toBe(200)
    authServer.restart()
    // It takes up to a second until the server is asked again.
    await settled(async () => (await statusFor(token)) === 200)
  })

  test.each([
    ['an error', async () => new Response('down', { status: 500 })],
    ['a page', async () => new Response('<html>', { headers: { 'content-type': 'text/html' } })],
    ['JSON of another shape', async () => Response.json({ hello: 'world' })],
    ['keys that are no list', async () => Response.json({ keys: {} })],
    ['a list', async () => Response.json([])],
    ['null', async () => Response.json(null)],
    ['nothing', async () => new Response('')],
    ['half of them', async () => new Response('{"keys":')],
    ['silence', async () => Promise.withResolvers<Response>().promise],
  ])('%s in place of the keys is 503 too', async (_, answer) => {
    const { authServer, statusFor } = start()
    const { token } = await authServer.signUp()
    authServer.interceptKeySet(answer)
    expect(await statusFor(token)).toBe(503)
    authServer.interceptKeySet()
    await settled(async () => (await statusFor(token)) === 200)
  })

  test('more than a megabyte of keys is 503, and less is read', async () => {
    const { authServer, api, statusFor } = start()
    const { token } = await authServer.signUp()
    const published = await (await fetch(`${authServer.url}/api/auth/jwks`)).text()
    const withPadding = (size: number) => new Response(' '.repeat(size) + published)
    authServer.interceptKeySet(async () => withPadding(1024 * 1024))
    expect(await statusFor(token)).toBe(503)
    expect(api.lines.join('')).toContain('cannot be had: the answer has more than 1048576 bytes')
    authServer.interceptKeySet(async () => withPadding(1000 * 1024))
    await settled(async () => (await statusFor(token)) === 200)
  })

  test('a redirect in place of the keys is not followed', async () => {
    const { authServer, statusFor } = start()
    const { token } = await authServer.signUp()
    let visits = 0
    const elsewhere = Bun.serve({
      port: 0,
      async fetch() {
        visits += 1
        return Response.json({ keys: authServer.publicKeys() })
      },
    })
    authServer.interceptKeySet(async () => Response.redirect(elsewhere.url.href))
    expect(await statusFor(token)).toBe(503)
    expect(visits).toBe(0)
    await elsewhere.stop(true)
  })

  test('it is asked at most once a second, and logged as rarely, without a stack', async () => {
    const { authServer, api, statusFor } = start()
    const { token } = await authServer.signUp()
    authServer.interceptKeySet(async () => new Response('down', { status: 500 }))
    const statuses = new Set<number>()
    const began = performance.now()
    while (performance.now() - began < 1_500) statuses.add(await statusFor(token))
    const most = 1 + Math.floor((performance.now() - began) / 1_000)
    expect(statuses).toEqual(new Set([503]))
    expect(authServer.keySetRequests()).toBeLessThanOrEqual(most)
    const told = api.lines.filter((line) => line.includes('cannot be had'))
    expect(told.length).toBeWithin(1, most + 1)
    expect(JSON.parse(told[0]!)).toMatchObject({
      level: 50,
      code: 'auth_unavailable',
      route: '/api/tasks',
      msg: expect.stringContaining(`the keys at ${authServer.url}/api/auth/jwks cannot be had`),
    })
    expect(api.lines.join('')).not.toContain('stack')
    expect(api.lines.join('')).not.toContain('request failed')
    authServer.interceptKeySet()
    await settled(async () => (await statusFor(token)) === 200)
  })

  test('however many ask at once, the keys are fetched once', async () => {
    const { authServer, statusFor } = start()
    const users = await Promise.all(Array.from({ length: 20 }, async () => authServer.signUp()))
    const { promise: held, resolve: release } = Promise.withResolvers<void>()
    authServer.interceptKeySet(async () => {
      await held
      return new Response('down', { status: 502 })
    })
    const asked = Promise.all(users.map(async ({ token }) => statusFor(token)))
    await settled(async () => authServer.keySetRequests() === 1)
    release()
    expect(new Set(await asked)).toEqual(new Set([503]))
    expect(authServer.keySetRequests()).toBe(1)
  })
})

/** Asks again until the answer is true. The runner stops a test that waits for ever. */
async function settled(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await Bun.sleep(20)
}
