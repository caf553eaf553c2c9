import { mcp } from '@better-auth/mcp'
import type { OAuthClientProvider, OAuthDiscoveryState } from '@modelcontextprotocol/client'
import { betterAuth, type BetterAuthPlugin } from 'better-auth'
import { memoryAdapter } from 'better-auth/adapters/memory'
import { getAuthTables } from 'better-auth/db'
import { jwt } from 'better-auth/plugins'

/** Where an agent would listen for its code. Nobody is there: the browser is played here. */
const callback = 'http://localhost:6274/oauth/callback'

/** A real Better Auth that is an OAuth server for `resource`, as a front end would run it. */
export function startAuthorizationServer(resource: string) {
  let handle: (request: Request) => Promise<Response>
  const server = Bun.serve({ port: 0, fetch: async (request) => handle(request) })
  const url = `http://localhost:${server.port}`
  const rows: Record<string, Record<string, unknown>[]> = {}
  const options = {
    baseURL: url,
    secret: 'a secret of the auth server alone, for its cookies',
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    logger: { level: 'error' as const },
    plugins: [
      jwt(),
      mcp({
        loginPage: '/login',
        consentPage: '/consent',
        resource,
        scopes: ['openid', 'profile', 'email', 'offline_access', 'tasks:read', 'tasks:write'],
        allowDynamicClientRegistration: true,
        allowUnauthenticatedClientRegistration: true,
        // Its types are not made for exactOptionalPropertyTypes.
      }) as unknown as BetterAuthPlugin,
    ],
  }
  for (const name of Object.keys(getAuthTables(options))) rows[name] = []
  const auth = betterAuth({ ...options, database: memoryAdapter(rows) })
  handle = async (request) => {
    // As a front end's routes do, whose Better Auth is under /api/auth.
    const { pathname } = new URL(request.url)
    const known = /^\/\.well-known\/(oauth-authorization-server|openid-configuration)\/api\/auth$/
    const [, document] = known.exec(pathname) ?? []
    return auth.handler(
      document ? new Request(`${url}/api/auth/.well-known/${document}`, request) : request,
    )
  }

  async function post(path: string, body: object, cookie = ''): Promise<Response> {
    const headers = { 'content-type': 'application/json', origin: url, cookie }
    const response = await fetch(`${url}/api/auth${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return response
  }

  /** A user with a session in a browser. */
  async function signUp() {
    const account = { email: `${crypto.randomUUID()}@example.com`, password: 'correct horse' }
    const signedUp = await post('/sign-up/email', { ...account, name: 'Test' })
    const cookie = signedUp.headers
      .getSetCookie()
      .map((text) => text.split(';')[0])
      .join('; ')
    const { user } = (await signedUp.json()) as { user: { id: string } }

    /** Opens the page that an agent wants opened, and says yes: what comes back to it. */
    async function consent(page: URL): Promise<URLSearchParams> {
      const opened = await fetch(page, { headers: { cookie }, redirect: 'manual' })
      const asked = new URL(opened.headers.get('location') ?? '', url)
      if (asked.pathname !== '/consent')
        throw new Error(`No consent asked for: ${asked.href} ${await opened.text()}`)
      const oauth_query = asked.search.slice(1)
      const given = await post('/oauth2/consent', { accept: true, oauth_query }, cookie)
      const { url: back } = (await given.json()) as { url: string }
      return new URL(back).searchParams
    }

    async function tokenOfSession(): Promise<string> {
      const response = await fetch(`${url}/api/auth/token`, { headers: { cookie } })
      return ((await response.json()) as { token: string }).token
    }
    return { id: user.id, consent, tokenOfSession }
  }

  return { url, signUp, stop: async () => server.stop(true) }
}

/** What an agent keeps of its authorization, as the SDK's clients ask for it. */
export function createAuthorization() {
  let client: Awaited<ReturnType<OAuthClientProvider['clientInformation']>>
  let tokens: Awaited<ReturnType<OAuthClientProvider['tokens']>>
  let verifier = ''
  let discovered: OAuthDiscoveryState | undefined
  let page: URL | undefined
  const provider: OAuthClientProvider = {
    redirectUrl: callback,
    clientMetadata: {
      client_name: 'An agent',
      redirect_uris: [callback],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    },
    clientInformation: () => client,
    saveClientInformation(information) {
      client = information
    },
    tokens: () => tokens,
    saveTokens(given) {
      tokens = given
    },
    redirectToAuthorization(url) {
      page = url
    },
    saveCodeVerifier(text) {
      verifier = text
    },
    codeVerifier: () => verifier,
    saveDiscoveryState(state) {
      discovered = state
    },
    discoveryState: () => discovered,
  }
  return {
    provider,
    /** Where the agent sends its user. */
    page: () => page!,
    tokens: () => tokens as { access_token: string; id_token?: string },
  }
}
