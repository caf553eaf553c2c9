import { randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import { pino } from 'pino'
import { createApp } from '../../app.ts'
import { withSessions } from '../../auth/sessions.ts'
import { createTokenVerifier } from '../../auth/tokens.ts'
import { readConfig, type Config } from '../../config.ts'
import { parseDatabaseUrl } from '../../db/address.ts'
import { connect, type Database } from '../../db/pool.ts'
import type { Query } from '../../db/sql.ts'
import { startEmbedded } from '../../db/embedded.ts'
import { migrate } from '../../db/migrate.ts'
import { noMetrics, type Metrics } from '../../http/metrics.ts'
import { createProxies } from '../../http/proxies.ts'
import { createRateLimits } from '../../http/rate-limit.ts'
import { serve } from '../../server.ts'
import type { Task } from '../../tasks/schemas.ts'
import { countingCheck } from './counting-check.ts'
import { createConformance, type Conformance, type OpenApiDocument } from './openapi.ts'

export const secret = 'the tests share this secret: 0123456789'
export const frontEnd = 'http://localhost:3000'

/**
 * The database that all tests of this run share: the one that TEST_DATABASE_URL names, or else an
 * embedded one in memory. Tests keep apart by being different users.
 */
const url = process.env['TEST_DATABASE_URL']
const embedded = url ? undefined : await startEmbedded('memory://')
/** Where it is. */
export const databasePlace = embedded ?? parseDatabaseUrl(url!)
export const database: Database = connect(databasePlace)
await migrate(database)
await database.script(countingCheck, 5_000)

/** Changes the shared database past `countingCheck`, as SQL by hand would: what no request can do. */
export async function writeUncounted(sql: string): Promise<void> {
  await database.script(`select set_config('tests.uncounted', 'yes', true); ${sql}`, 5_000)
}

/** The same, but for every statement. */
export function databaseThat(query: Query): Database {
  return { ...database, query, queryFor: () => query, queryWithin: () => query }
}

/** Once, after the tests of all files. */
export async function closeDatabase(): Promise<void> {
  await database.close()
  await embedded?.close()
}

export type Answer<Body = unknown> = {
  status: number
  headers: Headers
  body: Body
  text: string
}

export type RequestOptions = {
  token?: string
  /** Sent as JSON. */
  json?: unknown
  /** Sent as it is. */
  body?: Bun.BodyInit
  headers?: Record<string, string>
}

export type TaskBody = Task

/** What a task has in the fields that nobody has set. */
export const unsetFields = {
  priority: 'none',
  tags: [],
  due_date: null,
  due_time: null,
  due_timezone: null,
  due_at: null,
  recurrence: null,
  recurrence_from: 'due',
  series_id: null,
  occurrence_date: null,
  next_task_id: null,
  reminders: [],
} satisfies Partial<Task>

let conformance: Promise<Conformance> | undefined

/** What the OpenAPI document says of answers. It is the same whatever the settings are. */
export async function readConformance(): Promise<Conformance> {
  conformance ??= (async () => {
    const api = startApi()
    const document = (await (await fetch(`${api.origin}/docs/json`)).json()) as OpenApiDocument
    await api.stop()
    return createConformance(document)
  })()
  return conformance
}

/** The real app on a real port, logging into `lines`. */
export function startApi({
  settings = {},
  over = database,
  now,
  metrics = noMetrics,
  lookEvery,
}: {
  settings?: Record<string, string>
  over?: Database
  now?: () => number
  metrics?: Metrics
  lookEvery?: number
} = {}) {
  const config: Config = readConfig({ BETTER_AUTH_SECRET: secret, ...settings })
  const lines: string[] = []
  const log = pino({ level: 'info', base: null }, { write: (line: string) => lines.push(line) })
  const endings: (() => Promise<void>)[] = []
  const app = createApp({
    database: over,
    verifyToken: withSessions(createTokenVerifier(config, now), over, config, now),
    corsOrigins: config.corsOrigins,
    publicUrl: config.publicUrl,
    resource: config.resource,
    maxTasksPerUser: config.maxTasksPerUser,
    maxStreamsPerUser: config.maxStreamsPerUser,
    proxies: createProxies(config.trustedProxies),
    rateLimits: createRateLimits(config.quotas, now),
    lookEvery,
    onStop: (end) => endings.push(end),
    environment: config.environment,
    withDocs: config.docs,
    log,
    metrics,
  })
  const server = serve(app, { host: '127.0.0.1', port: 0 })
  const origin = server.url.origin

  /** @throws Error if the answer is not one that the OpenAPI document declares */
  async function request<Body = unknown>(
    method: string,
    path: string,
    { token, json, body, headers = {} }: RequestOptions = {},
  ): Promise<Answer<Body>> {
    const response = await fetch(`${origin}${path}`, {
      method,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...((body ?? json) !== undefined && { body: body ?? JSON.stringify(json) }),
    })
    const text = await response.text()
    const answer = { status: response.status, headers: response.headers, text }
    const { pathname } = new URL(path, origin)
    const problems = (await readConformance()).problems(method, pathname, answer)
    if (problems.length > 0)
      throw new Error(`${method} ${path}: ${response.status} ${text}: ${problems.join('; ')}`)
    return { ...answer, body: parse<Body>(text) }
  }

  return {
    origin,
    app,
    request,
    lines,
    stop: async () => {
      await Promise.all([server.stop(), ...endings.map(async (end) => end())])
    },
  }
}

function parse<Body>(text: string): Body {
  try {
    return JSON.parse(text) as Body
  } catch {
    return undefined as Body
  }
}

/** A token as a front end that shares the secret would make it; `claims` replace its own. */
export async function tokenFor(
  user: string,
  claims: Record<string, unknown> = {},
  { alg = 'HS256', key = secret, typ }: { alg?: string; key?: string; typ?: string } = {},
): Promise<string> {
  const seconds = Math.floor(Date.now() / 1000)
  return new SignJWT({ sub: user, iat: seconds, exp: seconds + 3600, ...claims })
    .setProtectedHeader({ alg, ...(typ !== undefined && { typ }) })
    .sign(new TextEncoder().encode(key))
}

/** Somebody whom no other test knows. */
export async function newUser(): Promise<{ id: string; token: string }> {
  const id = `user-${randomUUID()}`
  return { id, token: await tokenFor(id) }
}

export type Row = {
  id: number
  user_id: string
  title: string
  description: string | null
  completed: boolean
  created_at: string
  updated_at: string
}

/** What the database holds of a user outside of the trash, past the API. */
export async function rowsOf(user: string): Promise<Row[]> {
  return database.query<Row>`
    select id, user_id, title, description, completed,
      created_at::text as created_at, updated_at::text as updated_at
    from todo_api.tasks where user_id = ${user} and deleted_at is null order by id`
}
