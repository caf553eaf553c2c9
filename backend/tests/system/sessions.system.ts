import { afterAll, expect, test } from 'bun:test'
import { betterAuth } from 'better-auth'
import { getMigrations } from 'better-auth/db/migration'
import { bearer } from 'better-auth/plugins'
import { Pool } from 'pg'
import { parseDatabaseUrl } from '../../db/address.ts'
import { migrate } from '../../db/migrate.ts'
import { connect } from '../../db/pool.ts'
import { secret, startApi, type TaskBody } from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { spawnServer, startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const settings = { BETTER_AUTH_SESSIONS: 'database', DATABASE_URL: url }
const database = connect(parseDatabaseUrl(url))
await migrate(database)
const pool = new Pool({
  host: 'localhost',
  port: postgres.port,
  user: owner.name,
  password: owner.password,
  database: 'neondb',
  ssl: { rejectUnauthorized: false },
})
afterAll(async () => {
  await pool.end()
  await database.close()
  await postgres.close()
})

/** A real Better Auth on the API's own database, without its `jwt()` plugin. */
const auth = betterAuth({
  baseURL: 'http://localhost:3000',
  secret,
  database: pool,
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  logger: { level: 'error' },
  plugins: [bearer()],
})
const { runMigrations } = await getMigrations(auth.options)

async function signUp() {
  const body = { email: `${crypto.randomUUID()}@example.com`, password: 'correct horse', name: 'x' }
  const { headers, response } = await auth.api.signUpEmail({ body, returnHeaders: true })
  const [, cookie = ''] =
    /better-auth\.session_token=([^;]+)/.exec(headers.get('set-cookie')!) ?? []
  return {
    id: response.user.id,
    token: response.token!,
    /** As the `bearer()` plugin gives it. */
    signed: headers.get('set-auth-token')!,
    /** As it stands in the cookie. */
    cookie,
    signOut: async () =>
      auth.api.signOut({ headers: new Headers({ cookie: `better-auth.session_token=${cookie}` }) }),
  }
}

test('a server whose table of sessions is missing says its name, and does not start', async () => {
  const server = Bun.spawn([process.execPath, 'backend/main.ts'], {
    env: { NODE_ENV: 'production', ...settings, BETTER_AUTH_SESSION_TABLE: 'auth.nothing' },
    stdout: 'pipe',
    stderr: 'ignore',
  })
  expect(await server.exited).toBe(1)
  const { msg: said } = JSON.parse(await server.stdout.text()) as { msg: string }
  expect(said).toContain(
    'the table "auth"."nothing" with the columns "token", "expiresAt" and "userId"',
  )
  expect(said).not.toContain(owner.password)
})

test('a session token of Better Auth’s opens its user’s tasks, and nobody else’s', async () => {
  await runMigrations()
  const server = await startServer(url, settings)
  const [alice, bob] = [await signUp(), await signUp()]
  const json = { title: 'Buy milk' }
  const created = await server.request<TaskBody>('POST', '/api/tasks', { ...alice, json })
  expect(created.status).toBe(201)
  const rows = await postgres.admin`select title from todo_api.tasks where user_id = ${alice.id}`
  expect(rows).toMatchObject([json])
  for (const token of [alice.token, alice.signed, alice.cookie]) {
    const { status, body } = await server.request('GET', `/api/${alice.id}/tasks`, { token })
    expect({ status, body }).toEqual({ status: 200, body: [created.body] })
  }
  expect((await server.request('GET', '/api/tasks', bob)).body).toEqual([])
  expect((await server.request('GET', `/api/tasks/${created.body.id}`, bob)).status).toBe(403)
  await server.end()
})

const wrong = (signature: string) => signature.replace(/.{6}$/, 'AAAAAA')

test('what only looks like a session token is refused', async () => {
  const api = startApi({ over: database, settings })
  const { token, signed, cookie } = await signUp()
  const statusFor = async (given: string) =>
    (await api.request('GET', '/api/tasks', { token: given })).status
  expect(await statusFor(signed)).toBe(200)
  for (const given of [
    `${token}x`,
    token.slice(1),
    token.toUpperCase() === token ? token.toLowerCase() : token.toUpperCase(),
    `${token}.`,
    wrong(signed),
    wrong(cookie),
    `${signed}.x`,
    `${token}.${'A'.repeat(43)}`,
    `'; drop table session --aaaaaaaaaaaaaaa`,
    'x'.repeat(10_000),
  ])
    expect({ given, status: await statusFor(given) }).toEqual({ given, status: 401 })
  await api.stop()

  const unsigned = startApi({
    over: database,
    settings: { ...settings, BETTER_AUTH_SECRET: 'another secret of 32 characters, or more' },
  })
  expect((await unsigned.request('GET', '/api/tasks', { token: signed })).status).toBe(401)
  expect((await unsigned.request('GET', '/api/tasks', { token })).status).toBe(200)
  await unsigned.stop()

  const without = startApi({ over: database })
  expect((await without.request('GET', '/api/tasks', { token })).status).toBe(401)
  await without.stop()
})

test('an expired session is 401, from when it has expired', async () => {
  let time = Date.now()
  const api = startApi({ over: database, settings, now: () => time })
  const session = await signUp()
  expect((await api.request('GET', '/api/tasks', session)).status).toBe(200)
  time += 8 * 24 * 3_600_000
  expect((await api.request('GET', '/api/tasks', session)).body).toMatchObject({
    code: 'token_expired',
  })
  await api.stop()
})

test('an expired session is 401 even if the role rounds numbers', async () => {
  const rounding = connect(parseDatabaseUrl(`${url}&options=-c%20extra_float_digits%3D-15`))
  const api = startApi({ over: rounding, settings })
  const session = await signUp()
  await postgres.admin`
    update session set "expiresAt" = now() - interval '3 days'
    where token = ${session.token.split('.')[0]!}`
  expect((await api.request('GET', '/api/tasks', session)).body).toMatchObject({
    code: 'token_expired',
  })
  await api.stop()
  await rounding.close()
})

test('a session that was prolonged is good past the time until which it was known to be', async () => {
  let time = Date.now()
  const api = startApi({ over: database, settings, now: () => time })
  const session = await signUp()
  const prolong = async (by: string) =>
    postgres.admin`
      update session set "expiresAt" = now() + ${by}::interval
      where token = ${session.token.split('.')[0]!}`
  await prolong('10 seconds')
  expect((await api.request('GET', '/api/tasks', session)).status).toBe(200)
  await prolong('1 day')
  time += 15_000
  expect((await api.request('GET', '/api/tasks', session)).status).toBe(200)
  await api.stop()
})

test('a session that is signed out of is refused within a minute, and its streams end', async () => {
  let time = Date.now()
  const api = startApi({ over: database, settings, now: () => time })
  const session = await signUp()
  const headers = { authorization: `Bearer ${session.token}` }
  const stream = await openEvents(`${api.origin}/api/tasks/events`, headers)
  const translated = await openEvents(`${api.origin}/compat/tasks/tasks/events`, headers)
  const { body } = await api.request<{ ticket: string }>(
    'POST',
    '/api/tasks/events/ticket',
    session,
  )
  const { body: other } = await api.request<TaskBody>('POST', '/api/tasks', {
    ...session,
    json: { title: 'x' },
  })
  await stream.received(1)
  expect(stream.events).toMatchObject([{ data: { id: other.id } }])

  await session.signOut()
  time += 31_000
  expect((await api.request('GET', '/api/tasks', session)).body).toMatchObject({
    code: 'token_invalid',
  })
  await Promise.all([stream.ended, translated.ended])
  const [ticket] = await postgres.admin<{ seconds: number }[]>`
    select extract(epoch from token_expires_at - now())::float8 as seconds
    from todo_api.event_tickets where user_id = ${session.id}`
  expect(body.ticket).toBeString()
  expect(ticket!.seconds).toBeLessThanOrEqual(60)
  await api.stop()
})

test('the table may be in another schema, under other names, as Drizzle makes it', async () => {
  await postgres.admin.unsafe(`
    create schema auth;
    create table auth.sessions (id uuid, token text, expires_at timestamp, user_id uuid);
    grant usage on schema auth to ${owner.name};`)
  const named = {
    ...settings,
    BETTER_AUTH_SESSION_TABLE: 'auth.sessions',
    BETTER_AUTH_SESSION_COLUMNS: 'token, expires_at, user_id',
  }
  await postgres.admin.unsafe(`
    create table auth.unlike (token uuid, expires_at timestamp, user_id uuid);
    grant select on auth.unlike to ${owner.name}`)
  const unlike = spawnServer(url, { ...named, BETTER_AUTH_SESSION_TABLE: 'auth.unlike' })
  const refused = spawnServer(url, named) // may not read it
  expect([await unlike.exited, await refused.exited]).toEqual([1, 1])
  await postgres.admin.unsafe(`grant select on auth.sessions to ${owner.name}`)
  const user = crypto.randomUUID()
  const token = 'a'.repeat(32)
  await postgres.admin`
    insert into auth.sessions values
      (gen_random_uuid(), ${token}, now() at time zone 'UTC' + interval '1 minute', ${user})`
  const server = await startServer(url, named)
  expect((await server.request('GET', `/api/${user}/tasks`, { token })).status).toBe(200)
  await postgres.admin`
    update auth.sessions set token = ${'b'.repeat(32)}, expires_at = now() at time zone 'UTC' - interval '1 second'`
  expect((await server.request('GET', '/api/tasks', { token: 'b'.repeat(32) })).body).toMatchObject(
    {
      code: 'token_expired',
    },
  )
  await server.end()
})

test('the table being away is 503, and not 401', async () => {
  const api = startApi({ over: database, settings })
  const session = await signUp()
  await postgres.admin`alter table session rename to session_for_a_while`
  const { status, body } = await api.request('GET', '/api/tasks', session)
  expect({ status, body }).toMatchObject({ status: 503, body: { code: 'auth_unavailable' } })
  await postgres.admin`alter table session_for_a_while rename to session`
  expect((await api.request('GET', '/api/tasks', session)).status).toBe(200)
  await api.stop()
})

test('the database being away is 503, and not 401', async () => {
  const server = await startServer(url, settings)
  const session = await signUp()
  pool.on('error', () => {}) // its connections end, too
  await postgres.stop()
  expect((await server.request('GET', '/api/tasks', session)).status).toBe(503)
  await postgres.start()
  await server.end()
})
