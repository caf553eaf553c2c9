import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT, importJWK, exportJWK } from 'jose'
import { startAuthServer } from '../support/auth-server.ts'
import {
  database,
  databaseThat,
  newUser,
  secret,
  startApi,
  tokenFor,
  type Answer,
  type TaskBody,
} from '../support/api.ts'

const authServer = startAuthServer()
const statements: number[] = []
const api = startApi({
  settings: { BETTER_AUTH_URL: authServer.url },
  over: databaseThat(async (strings, ...parameters) => {
    statements.push(1)
    return database.query(strings, ...parameters)
  }),
})
const attacker = Bun.serve({ port: 0, fetch: async () => Response.json(await attackersKeySet()) })
const attackersKeys = await generateKeyPair('EdDSA', { extractable: true })
let visits = 0

async function attackersKeySet() {
  visits += 1
  return { keys: [{ ...(await exportJWK(attackersKeys.publicKey)), kid: 'theirs', alg: 'EdDSA' }] }
}

let user: { id: string; token: string }
beforeAll(async () => {
  user = await authServer.signUp()
})
afterAll(async () => {
  await Promise.all([api.stop(), authServer.stop(), attacker.stop(true)])
})

const seconds = () => Math.floor(Date.now() / 1000)
const claims = () => ({ sub: user.id, exp: seconds() + 60 })
const serverClaims = () => ({ ...claims(), iss: authServer.url, aud: authServer.url })

function expectRefusal(answer: Answer, code: string): void {
  const details: Record<string, string> = {
    token_missing: 'Send your token in the header Authorization: Bearer <token>',
    token_invalid: 'The token is not valid; sign in again to get a new one',
    token_expired: 'The token has expired; sign in again to get a new one',
  }
  expect(answer.status).toBe(401)
  expect(answer.body).toEqual({
    detail: details[code],
    code,
    request_id: answer.headers.get('x-request-id'),
  })
  expect(answer.headers.get('www-authenticate')).toBe(
    code === 'token_missing' ? 'Bearer' : 'Bearer error="invalid_token"',
  )
  expect(answer.headers.get('content-type')).toBe('application/json')
}

describe('no token', () => {
  test.each([
    ['no header', {}],
    ['an empty header', { authorization: '' }],
    ['another scheme', { authorization: 'Basic YWxpY2U6c2VjcmV0' }],
    ['the scheme alone', { authorization: 'Bearer' }],
    ['the scheme and a space', { authorization: 'Bearer ' }],
  ])('%s is told to send one', async (_, headers) => {
    expectRefusal(await api.request('GET', '/api/tasks', { headers }), 'token_missing')
  })
})

describe('a bad token', () => {
  const otherSecret = 'another secret that nobody shares here'
  const hmac = async (text: string) =>
    Buffer.from(
      await crypto.subtle.sign(
        'HMAC',
        await crypto.subtle.importKey(
          'raw',
          new TextEncoder().encode(text),
          { name: 'HMAC', hash: 'SHA-256' },
          false,
          ['sign'],
        ),
        new TextEncoder().encode('irrelevant'),
      ),
    ).toString('base64url')
  const publicKey = async () => {
    const [jwk] = authServer.publicKeys()
    return exportSPKI(
      (await importJWK({ ...jwk!, alg: 'EdDSA' }, 'EdDSA', { extractable: true })) as CryptoKey,
    )
  }
  const signedByAttacker = async (header: object) =>
    new SignJWT(serverClaims())
      .setProtectedHeader({ alg: 'EdDSA', kid: 'theirs', ...header })
      .sign(attackersKeys.privateKey)

  const cases: [string, () => Promise<string>][] = [
    ['garbage', async () => 'garbage'],
    ['two tokens', async () => `${await tokenFor('a')} ${await tokenFor('a')}`],
    ['three dots', async () => '...'],
    ['a header that is not JSON', async () => `e30x.e30.${await hmac('x')}`],
    ['a header without alg', async () => `${Buffer.from('{}').toString('base64url')}.e30.e30`],
    ['one signed with another secret', async () => tokenFor(user.id, {}, { key: otherSecret })],
    [
      'HS512 under our secret',
      async () => tokenFor(user.id, {}, { alg: 'HS512', key: secret.repeat(2) }),
    ],
    ['alg none', async () => new UnsecuredJWT(serverClaims()).encode()],
    [
      'alg None, in other letters',
      async () =>
        `${Buffer.from('{"alg":"nOnE"}').toString('base64url')}.${Buffer.from(JSON.stringify(claims())).toString('base64url')}.`,
    ],
    [
      'the public key as an HMAC secret',
      async () => tokenFor(user.id, serverClaims(), { key: await publicKey() }),
    ],
    [
      'the public JWK as an HMAC secret',
      async () =>
        tokenFor(user.id, serverClaims(), { key: JSON.stringify(authServer.publicKeys()[0]) }),
    ],
    ['one not valid yet', async () => tokenFor(user.id, { nbf: seconds() + 60 })],
    ['no exp', async () => tokenFor(user.id, { exp: undefined })],
    ['an exp that is text', async () => tokenFor(user.id, { exp: String(seconds() + 60) })],
    ['no sub', async () => tokenFor(user.id, { sub: undefined })],
    ['an empty sub', async () => tokenFor(user.id, { sub: '' })],
    ['a sub that is a number', async () => tokenFor(user.id, { sub: 7 })],
    ['a sub that is a list', async () => tokenFor(user.id, { sub: ['alice'] })],
    ['a sub that is an object', async () => tokenFor(user.id, { sub: { id: 'alice' } })],
    ['a sub of 256 characters', async () => tokenFor('x'.repeat(256))],
    ['a sub of 256 characters of two units each', async () => tokenFor('😀'.repeat(256))],
    ['a sub with a NUL', async () => tokenFor('alice\0')],
    ['a sub with half a surrogate pair', async () => tokenFor('alice\ud800')],
    ['an attacker’s key with our claims', async () => signedByAttacker({})],
    ['a jku header of the attacker’s', async () => signedByAttacker({ jku: attacker.url.href })],
    ['an x5u header of the attacker’s', async () => signedByAttacker({ x5u: attacker.url.href })],
    [
      'a jwk header of the attacker’s',
      async () => signedByAttacker({ jwk: await exportJWK(attackersKeys.publicKey) }),
    ],
    [
      'a crit header that nobody knows',
      async () => {
        const [, payload] = (await tokenFor(user.id)).split('.')
        const header = Buffer.from('{"alg":"HS256","crit":["x"],"x":1}').toString('base64url')
        const key = await crypto.subtle.importKey(
          'raw',
          new TextEncoder().encode(secret),
          { name: 'HMAC', hash: 'SHA-256' },
          false,
          ['sign'],
        )
        const signature = await crypto.subtle.sign(
          'HMAC',
          key,
          new TextEncoder().encode(`${header}.${payload}`),
        )
        return `${header}.${payload}.${Buffer.from(signature).toString('base64url')}`
      },
    ],
    [
      'a real one with another payload',
      async () => {
        const [header, , signature] = user.token.split('.')
        return `${header}.${Buffer.from(JSON.stringify({ ...serverClaims(), sub: 'bob' })).toString('base64url')}.${signature}`
      },
    ],
    [
      'one signed with an empty secret',
      async () => {
        const [header, payload] = (await tokenFor(user.id)).split('.')
        const signed = new Bun.CryptoHasher('sha256', '').update(`${header}.${payload}`)
        return `${header}.${payload}.${signed.digest('base64url')}`
      },
    ],
    [
      'a kid that is a path, SQL and a command',
      async () => signedByAttacker({ kid: "../../dev/null' union select 'key'; $(id)" }),
    ],
    [
      'an encrypted one, compressed',
      async () =>
        `${Buffer.from('{"alg":"dir","enc":"A256GCM","zip":"DEF"}').toString('base64url')}..aa.aa.aa`,
    ],
    [
      'one not in UTF-8',
      async () => `${Buffer.from('{"alg":"\xff"}', 'latin1').toString('base64url')}.e30.e30`,
    ],
    ['100 KB of garbage', async () => 'x'.repeat(100_000)],
    ['a good one of 100 KB', async () => tokenFor(user.id, { filler: 'x'.repeat(75_000) })],
  ]

  test.each(cases)('%s is refused, and the database not asked', async (_, make) => {
    const token = await make()
    statements.length = 0
    expectRefusal(await api.request('GET', '/api/tasks', { token }), 'token_invalid')
    expect(statements).toEqual([])
    expect(visits).toBe(0)
  })

  test('an expired one is called expired, whoever signed it', async () => {
    const token = await tokenFor(user.id, { exp: seconds() - 60 })
    expectRefusal(await api.request('GET', '/api/tasks', { token }), 'token_expired')
  })

  test('an expired one with a wrong signature is just wrong', async () => {
    const token = await tokenFor(user.id, { exp: seconds() - 60 }, { key: otherSecret })
    expectRefusal(await api.request('GET', '/api/tasks', { token }), 'token_invalid')
  })
})

describe('a token that is not in the Authorization header', () => {
  test.each([
    ['the query', '/api/tasks?access_token='],
    ['the query, under another name', '/api/tasks?token='],
    ['the place of a ticket', '/api/tasks/events?ticket='],
  ])('in %s opens nothing', async (_, path) => {
    const { token } = await newUser()
    expect((await api.request('GET', path + token)).status).toBe(401)
  })

  test('in a cookie or a form opens nothing', async () => {
    const { token } = await newUser()
    const cookie = `better-auth.session_token=${token}; token=${token}`
    expect((await api.request('GET', '/api/tasks', { headers: { cookie } })).status).toBe(401)
    const form = await api.request('POST', '/api/tasks', {
      body: `access_token=${token}&title=x`,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    expect(form.status).toBe(401)
  })
})

describe('a good token', () => {
  test.each(['bearer', 'BEARER', 'Bearer '])('the scheme may be written %p', async (scheme) => {
    const headers = { authorization: `${scheme} ${await tokenFor('anybody')}` }
    expect((await api.request('GET', '/api/tasks', { headers })).status).toBe(200)
  })

  test.each(['x', 'é', '😀'])('names a user by 255 characters such as %s', async (character) => {
    const name = character.repeat(255)
    const token = await tokenFor(name)
    const path = `/api/${encodeURIComponent(name)}/tasks`
    // Every statement of the other server is counted, and a write is announced a moment after its answer.
    const writable = startApi()
    const json = { title: 'Mine' }
    const created = await writable.request<TaskBody>('POST', path, { token, json })
    expect(created.status).toBe(201)
    expect((await writable.request('GET', '/api/tasks', { token })).body).toEqual([created.body])
    await writable.stop()
  })

  test('iss and aud of an HS256 token may be anything', async () => {
    const token = await tokenFor('somebody', { iss: 'https://evil.example', aud: ['x', 'y'] })
    expect((await api.request('GET', '/api/tasks', { token })).status).toBe(200)
  })

  test.each([
    // Two seconds are left for a slow machine.
    [{ exp: -3 }, 200],
    [{ exp: -6 }, 401],
    [{ exp: 60, nbf: 4 }, 200],
    [{ exp: 60, nbf: 7 }, 401],
  ])('clocks may differ by 5 seconds: %j from now is %p', async (offsets, status) => {
    const times = Object.fromEntries(
      Object.entries(offsets).map(([name, offset]) => [name, seconds() + offset]),
    )
    const token = await tokenFor('punctual', times)
    expect((await api.request('GET', '/api/tasks', { token })).status).toBe(status)
  })

  test('one that was good is refused as soon as it has expired', async () => {
    let time = Date.now()
    const later = startApi({ now: () => time })
    const token = await tokenFor('patient', { exp: seconds() + 60 })
    const { status } = await later.request('GET', '/api/tasks', { token })
    expect(status).toBe(200)
    time += 64_000
    expect((await later.request('GET', '/api/tasks', { token })).status).toBe(200)
    time += 2_000
    expectRefusal(await later.request('GET', '/api/tasks', { token }), 'token_expired')
    await later.stop()
  })
})

describe('what a stranger learns', () => {
  const strange: [string, string, object][] = [
    ['POST', '/api/tasks', { body: '{malformed', headers: { 'content-type': 'application/json' } }],
    ['POST', '/api/tasks', { json: { title: '' } }],
    ['POST', '/api/tasks', { body: 'text', headers: { 'content-type': 'text/plain' } }],
    ['POST', '/api/tasks', { body: 'x'.repeat(100_000) }],
    ['PUT', '/api/tasks/abc', { json: [] }],
    ['PATCH', '/api/tasks/1/complete', { json: { completed: 'yes' } }],
    ['GET', '/api/tasks?status=wrong', {}],
    ['GET', '/api/somebody/tasks', {}],
    ['GET', '/api/no/such/route', {}],
    ['PATCH', '/api/tasks', {}],
    ['DELETE', '/api/tasks/1', {}],
  ]
  test.each(strange)('%s %s: nothing but 401', async (method, path, options) => {
    expectRefusal(await api.request(method, path, options), 'token_missing')
  })
})

describe('a server that knows one family only', () => {
  test('without BETTER_AUTH_URL a Better Auth token is refused', async () => {
    const hs256Only = startApi()
    expectRefusal(await hs256Only.request('GET', '/api/tasks', user), 'token_invalid')
    await hs256Only.stop()
  })

  test('without BETTER_AUTH_SECRET an HS256 token is refused', async () => {
    const keySetOnly = startApi({
      settings: { BETTER_AUTH_URL: authServer.url, BETTER_AUTH_SECRET: '' },
    })
    const { token } = await newUser()
    expectRefusal(await keySetOnly.request('GET', '/api/tasks', { token }), 'token_invalid')
    expect((await keySetOnly.request('GET', '/api/tasks', user)).status).toBe(200)
    await keySetOnly.stop()
  })
})
