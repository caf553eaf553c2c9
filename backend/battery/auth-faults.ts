import { tokenFor } from '../tests/support/api.ts'
import { startAuthServer } from '../tests/support/auth-server.ts'
import { databaseUrl } from '../tests/support/postgres.ts'
import { startServer } from '../tests/support/server.ts'
import { createClient, never, type Client } from './client.ts'
import { startLoad } from './load.ts'
import type { Battery } from './main.ts'
import type { Report } from './report.ts'

/** Who has a token, and what the server says to it. */
type Scene = {
  auth: ReturnType<typeof startAuthServer>
  /** Whether a token is let in: the status, and the time that it took in milliseconds. */
  knock: (token: string) => Promise<{ status: number; ms: number }>
  report: Report
  short: boolean
}

const answersWithin = 6_500 // ms: 5 s of patience with the auth server, one of cooling down, and some
const allRubbish = [
  '',
  '<!doctype html><title>Sign in</title>',
  '{"keys":',
  '{"keys":{}}',
  'null',
  '[]',
]

const faults: Record<string, (scene: Scene) => Promise<void>> = {
  async 'the auth server rotates its keys'({ auth, knock, report }) {
    auth.rotateKeys()
    const { token } = await auth.signUp()
    expectStatus(report, 'a token of a new key', await knock(token), 200)
  },
  async 'the auth server is down'({ auth, knock, report }) {
    const known = await auth.signUp()
    auth.rotateKeys()
    const unknown = await auth.signUp()
    await auth.stop()
    expectStatus(report, 'a new token of a known key', await knock(known.token), 200)
    expectStatus(report, 'a token of an unknown key', await knock(unknown.token), 503)
    auth.restart()
    await Bun.sleep(1_000) // the server asks again after a second at the earliest
    expectStatus(report, 'the same token afterwards', await knock(unknown.token), 200)
  },
  async 'the auth server is slow'({ auth, knock, report }) {
    auth.rotateKeys()
    const { token } = await auth.signUp()
    const published = await (await fetch(`${auth.url}/api/auth/jwks`)).text()
    const answer = async (ms: number) => {
      await Bun.sleep(ms)
      return new Response(published, { headers: { 'content-type': 'application/json' } })
    }
    auth.interceptKeySet(async () => answer(20_000))
    expectStatus(report, 'a token of an unknown key', await knock(token), 503)
    await Bun.sleep(1_000)
    auth.interceptKeySet(async () => answer(2_000))
    expectStatus(report, 'a token of a key that takes 2 s', await knock(token), 200)
    auth.interceptKeySet()
  },
  async 'the auth server answers rubbish'({ auth, knock, report, short }) {
    auth.rotateKeys()
    const { token } = await auth.signUp()
    for (const text of short ? allRubbish.slice(0, 2) : allRubbish) {
      auth.interceptKeySet(
        async () => new Response(text, { headers: { 'content-type': 'application/json' } }),
      )
      await Bun.sleep(1_000)
      const { status, ms } = await knock(token)
      // A set without this key is the auth server's word; anything else is no answer of it.
      expectStatus(report, `a token, and ${JSON.stringify(text)} for keys,`, { status, ms }, 503)
    }
    auth.interceptKeySet(async () => new Response('oops', { status: 500 }))
    expectStatus(report, 'a token, and a 500 for keys,', await knock(token), 503)
    auth.interceptKeySet()
    await Bun.sleep(1_000)
    expectStatus(report, 'the same token afterwards', await knock(token), 200)
  },
}

function expectStatus(
  report: Report,
  what: string,
  { status, ms }: { status: number; ms: number },
  wanted: number,
): void {
  if (status !== wanted) {
    report.count('wrong answers')
    report.violation(`${what} is answered with ${status}, not ${wanted}`)
  }
  if (ms > answersWithin) report.violation(`${what} is answered after ${Math.round(ms)} ms`)
}

/**
 * What becomes of the auth server reaches those alone whose keys are not known: under each fault a
 * load of users who are signed in goes on without one error.
 */
export async function authFaults({ postgres, report, seed, short }: Battery): Promise<void> {
  const auth = startAuthServer()
  const database = await postgres.createDatabase()
  const server = await startServer(
    databaseUrl({ port: postgres.port, database }, 'sslmode=require'),
    { BETTER_AUTH_URL: auth.url },
  )
  const client = createClient(report)
  const users = [await auth.signUp(), await auth.signUp()]
  const load = startLoad({ client, report, users, servers: [() => server.origin], seed })
  await load.goesOn()

  async function knock(token: string) {
    const began = performance.now()
    const { status } = await server.request('GET', '/api/tasks', { token })
    return { status, ms: performance.now() - began }
  }

  const chosen = Object.entries(faults).filter(([name]) => !short || !name.includes('slow'))
  for (const [name, inject] of chosen) {
    const began = performance.now()
    await inject({ auth, knock, report, short })
    await load.goesOn()
    report.count('faults injected')
    report.progress(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  }
  await borders(client, server.origin, report)
  await load.check()
  await server.end()
  await auth.stop()
}

const tolerance = 5 // s, as the documentation says
const ahead = 2 // s between now and the border

/** Asks with two tokens around the second at which the one ends and the other begins. */
async function borders(client: Client, origin: string, report: Report): Promise<void> {
  client.excuse({ unavailable: () => never, cut: never })
  const border = Math.ceil(Date.now() / 1000) + ahead
  const user = crypto.randomUUID()
  const ending = await tokenFor(user, { exp: border - tolerance })
  const beginning = await tokenFor(user, { nbf: border + tolerance })
  const ask = async (token: string, isGoodBefore: boolean) => {
    const before = Date.now() / 1000
    const outcome = await client.ask(origin, 'GET', '/api/tasks/trash', { token }, [401])
    const after = Date.now() / 1000
    const status = outcome === 'lost' ? 0 : outcome.status
    // In between, either is right.
    const wanted = after < border ? isGoodBefore : before >= border ? !isGoodBefore : undefined
    if (wanted !== undefined && status !== (wanted ? 200 : 401)) {
      report.count('wrong answers')
      report.violation(`at its border, ${before - border} s, a token is answered with ${status}`)
    }
  }
  while (Date.now() / 1000 < border + 1) {
    await Promise.all([ask(ending, true), ask(beginning, false)])
    await Bun.sleep(3)
  }
  report.count('faults injected', 2)
  report.progress('the clock of tokens at their borders')
}
