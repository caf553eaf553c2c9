import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterAll, describe, expect, test } from 'bun:test'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { rowsOf, secret, startApi, tokenFor } from '../support/api.ts'
import { createAuthorization, startAuthorizationServer } from '../support/authorization-server.ts'
import { speakMcp } from '../support/mcp.ts'
import { freePort } from '../support/daemon.ts'

const publicUrl = `http://localhost:${await freePort()}`
const resource = `${publicUrl}/mcp`
const server = startAuthorizationServer(resource)
const settings = { PUBLIC_URL: publicUrl, BETTER_AUTH_URL: server.url }
const api = startApi({ settings })
/** Leads to the API, as a proxy in front of it does. */
const front = Bun.serve({
  port: Number(new URL(publicUrl).port),
  fetch: async (request) => fetch(request.url.replace(publicUrl, api.origin), request),
})
afterAll(async () => {
  await Promise.all([front.stop(true), api.stop(), server.stop()])
})

const issuer = `${server.url}/api/auth`
const metadata = `${publicUrl}/.well-known/oauth-protected-resource/mcp`

/**
 * Takes an agent from its first request, which is refused, to its user’s consent.
 *
 * @param scope what it asks for, in place of all that the resource knows
 */
async function authorize(scope?: string) {
  const user = await server.signUp()
  const authorization = createAuthorization()
  const { provider } = authorization
  const transport = () =>
    new StreamableHTTPClientTransport(new URL(resource), { authProvider: provider })
  const first = transport()
  const open = async (over: StreamableHTTPClientTransport) => {
    const client = new Client({ name: 'tests', version: '1' })
    await client.connect(over)
    return client
  }
  const refused = await open(first).catch((error: unknown) => error)
  expect(refused).toBeInstanceOf(Error)
  const page = authorization.page()
  if (scope !== undefined) page.searchParams.set('scope', scope)
  await first.finishAuth(await user.consent(page))
  return { user, client: await open(transport()), ...authorization.tokens() }
}

describe('an agent', () => {
  test('registers, asks its user, and manages their tasks with the token that it gets', async () => {
    const { user, client, access_token } = await authorize()
    expect(decodeProtectedHeader(access_token)).toMatchObject({ typ: 'at+jwt' })
    expect(decodeJwt(access_token)).toMatchObject({ iss: issuer, sub: user.id })
    const { tools } = await client.listTools()
    expect(tools).toHaveLength(7)
    const added = await client.callTool({ name: 'add_task', arguments: { title: 'By an agent' } })
    expect(added).not.toHaveProperty('isError')
    expect(await rowsOf(user.id)).toMatchObject([{ title: 'By an agent' }])
    // They see it with the token of their own session, too.
    const token = await user.tokenOfSession()
    const { body } = await api.request('GET', '/api/tasks', { token })
    expect(body).toMatchObject([{ title: 'By an agent' }])
    await client.close()
  })

  test('that was allowed to read does nothing else', async () => {
    const { user, client, access_token } = await authorize('tasks:read')
    const { tools } = await client.listTools()
    expect(tools.map(({ name }) => name)).toEqual(['list_tasks', 'get_task'])
    const call = { name: 'add_task', arguments: { title: 'x' } }
    const { status, body } = await speakMcp(api, access_token).ask('tools/call', call)
    expect([status, body]).toMatchObject([403, { code: 'insufficient_scope' }])
    expect(await rowsOf(user.id)).toEqual([])
    await client.close()
  })

  test('has a token for /mcp alone, before and after it was used there', async () => {
    const {
      client,
      access_token: token,
      id_token,
    } = await authorize('openid tasks:read tasks:write')
    const fresh = startApi({ settings })
    for (const over of [api, fresh])
      for (const [method, path] of [
        ['GET', '/api/tasks'],
        ['GET', '/api/keys'],
        ['GET', '/api/tasks/events'],
      ] as const) {
        const { status, body } = await over.request(method, path, { token })
        expect([path, status, body]).toMatchObject([path, 401, { code: 'token_invalid' }])
      }
    expect((await speakMcp(fresh, token).ask('tools/list')).status).toBe(200)
    expect((await fresh.request('GET', '/api/tasks', { token })).status).toBe(401)
    // An ID token proves who signed in, and allows nobody to do anything.
    expect(id_token).toBeString()
    for (const path of ['/api/tasks', '/mcp'])
      expect(
        (await fresh.request(path === '/mcp' ? 'POST' : 'GET', path, { token: id_token! })).status,
      ).toBe(401)
    await fresh.stop()
    await client.close()
  })

  test('has a token that another resource, or a server without one, refuses', async () => {
    const { client, access_token: token } = await authorize('tasks:read')
    const others = [
      startApi({ settings: { ...settings, PUBLIC_URL: 'https://other.example' } }),
      startApi({ settings: { BETTER_AUTH_URL: server.url } }),
    ]
    for (const other of others) {
      const { status, body } = await speakMcp(other, token).ask('tools/list')
      expect([status, body]).toMatchObject([401, { code: 'token_invalid' }])
      await other.stop()
    }
    await client.close()
  })
})

describe('the resource', () => {
  test('says who issues tokens for it, and a 401 says where', async () => {
    const { status, body } = await api.request('GET', '/.well-known/oauth-protected-resource/mcp')
    expect([status, body]).toEqual([
      200,
      {
        resource,
        authorization_servers: [issuer],
        scopes_supported: ['tasks:read', 'tasks:write'],
        bearer_methods_supported: ['header'],
        resource_name: 'Todo API',
      },
    ])
    const challenge = async (token?: string) =>
      (await speakMcp(api, token).ask('tools/list')).headers.get('www-authenticate')
    expect(await challenge()).toBe(`Bearer resource_metadata="${metadata}"`)
    expect(await challenge('x')).toBe(
      `Bearer error="invalid_token", resource_metadata="${metadata}"`,
    )
    const elsewhere = await api.request('GET', '/api/tasks')
    expect(elsewhere.headers.get('www-authenticate')).toBe('Bearer')
  })

  test.each([{}, { PUBLIC_URL: publicUrl }, { BETTER_AUTH_URL: server.url }])(
    'is not there with %j alone',
    async (some: Record<string, string>) => {
      const without = startApi({ settings: some })
      const path = '/.well-known/oauth-protected-resource/mcp'
      const { status, body } = await without.request('GET', path)
      expect([status, body]).toMatchObject([404, { code: 'route_not_found' }])
      await without.stop()
    },
  )
})

describe('an access token', () => {
  const claims = { iss: issuer, aud: resource, scope: 'tasks:read' }
  const toolsFor = async (given: object, typ = 'at+jwt') => {
    const token = await tokenFor('somebody', { ...claims, ...given }, { typ, key: secret })
    const { status, body } = await speakMcp(api, token).ask('tools/list')
    return status === 200 ? (body.result!['tools'] as { name: string }[]).length : status
  }

  test.each([
    ['as it should be', {}, 2],
    ['for several resources', { aud: ['https://other.example', resource] }, 2],
    ['that may write, too', { scope: 'tasks:write tasks:read' }, 7],
    ['without a scope', { scope: undefined }, 0],
    ['with another scope', { scope: 'openid' }, 0],
    ['of another issuer', { iss: server.url }, 401],
    ['of no issuer', { iss: undefined }, 401],
    ['for another resource', { aud: `${publicUrl}/mcp/` }, 401],
    ['for the auth server', { aud: server.url }, 401],
    ['for nothing', { aud: undefined }, 401],
    ['that is bound to a key', { cnf: { jkt: 'x' } }, 401],
    ['that has expired', { exp: 1 }, 401],
  ])('%s', async (_, given, expected) => {
    expect(await toolsFor(given)).toBe(expected)
    expect(await toolsFor(given, 'application/at+jwt')).toBe(expected)
  })

  test('by its type alone: another JWT of these claims may do what its scope says', async () => {
    expect(await toolsFor({}, 'JWT')).toBe(2)
    expect(await toolsFor({ scope: undefined }, 'JWT')).toBe(7)
  })
})
