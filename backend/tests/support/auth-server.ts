import { betterAuth } from 'better-auth'
import { memoryAdapter } from 'better-auth/adapters/memory'
import type { JWK } from 'jose'
import { bearer, jwt } from 'better-auth/plugins'

export type KeyAlgorithm = 'EdDSA' | 'ES256' | 'RS256' | 'PS256'

/** A real Better Auth server, as a Next.js application would run it, with its `jwt()` plugin. */
export function startAuthServer(algorithm: KeyAlgorithm = 'EdDSA') {
  const rows: Record<string, Record<string, unknown>[]> = {
    user: [],
    session: [],
    account: [],
    verification: [],
    jwks: [],
  }
  let keySetRequests = 0
  let answerKeySet: ((request: Request) => Promise<Response>) | undefined
  let server = listen(0)
  const url = `http://localhost:${server.port}`
  const auth = betterAuth({
    baseURL: url,
    secret: 'a secret of the auth server alone, for its cookies',
    database: memoryAdapter(rows),
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    logger: { level: 'error' },
    plugins: [bearer(), jwt({ jwks: { keyPairConfig: { alg: algorithm } } })],
  })

  function listen(port: number): Bun.Server<undefined> {
    return Bun.serve({
      port,
      async fetch(request) {
        if (!request.url.endsWith('/api/auth/jwks')) return auth.handler(request)
        keySetRequests += 1
        return answerKeySet ? answerKeySet(request) : auth.handler(request)
      },
    })
  }

  async function call(path: string, init: RequestInit): Promise<Response> {
    const response = await fetch(`${url}/api/auth${path}`, init)
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return response
  }

  async function post(path: string, body: object): Promise<Response> {
    return call(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', origin: url },
      body: JSON.stringify(body),
    })
  }

  async function tokenOf(signedIn: Response): Promise<string> {
    const session = signedIn.headers.get('set-auth-token') ?? ''
    const response = await call('/token', { headers: { authorization: `Bearer ${session}` } })
    const { token } = (await response.json()) as { token: string }
    return token
  }

  return {
    url,
    /** Signs a new user up, then in, and gives the JWT that the front end would send. */
    async signUp(email = `${crypto.randomUUID()}@example.com`) {
      const password = 'correct horse battery staple'
      await post('/sign-up/email', { email, password, name: 'Test' })
      const signedIn = await post('/sign-in/email', { email, password })
      const { user } = (await signedIn.clone().json()) as { user: { id: string } }
      return { id: user.id, token: await tokenOf(signedIn) }
    },
    /** Takes every key out of the set; the next token is signed with a new one. */
    rotateKeys() {
      rows['jwks'] = []
    },
    publicKeys: () => rows['jwks']!.map(({ publicKey }) => JSON.parse(String(publicKey)) as JWK),
    keySetRequests: () => keySetRequests,
    /** Answers for the key set in Better Auth's place, until called without an answer. */
    interceptKeySet(answer?: (request: Request) => Promise<Response>) {
      answerKeySet = answer
    },
    async stop() {
      await server.stop(true)
    },
    restart() {
      server = listen(Number(new URL(url).port))
    },
  }
}
