import type { BlockList } from 'node:net'
import type { SessionTable } from './auth/sessions.ts'
import type { AuthServer, Resource } from './auth/tokens.ts'
import { isPooler, parseDatabaseUrl, type DatabaseAddress } from './db/address.ts'
import { parseProxies } from './http/proxies.ts'
import type { Quotas } from './http/rate-limit.ts'

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
const environments = ['development', 'test', 'production'] as const

export type Config = {
  environment: (typeof environments)[number]
  host: string
  port: number
  logLevel: (typeof logLevels)[number]
  corsOrigins: string[]
  /** The origin at which clients reach this server. */
  publicUrl?: string
  /** Whether the documentation is served. */
  docs: boolean
  /** Where metrics are served. Absent: nowhere. */
  metrics?: { host: string; port: number }
  maxTasksPerUser: number
  /** How many seconds a server that was told to stop keeps serving while `/ready` says that it is not. */
  drainSeconds: number
  maxStreamsPerUser: number
  quotas: Quotas
  /** The proxies whose X-Forwarded-For and X-Forwarded-Proto are believed. Absent: none. */
  trustedProxies?: BlockList
  /** Absent: the embedded database. */
  database?: DatabaseAddress
  /** Its address without a pooler, which notifications need. Absent: there is none. */
  directDatabase?: DatabaseAddress
  /** The HS256 secret, at least 32 characters. Absent: HS256 tokens are refused. */
  secret?: string
  /** Absent: only HS256 tokens are accepted. */
  authServer?: AuthServer
  /** What OAuth access tokens are for. Absent: they are refused. */
  resource?: Resource
  /** Better Auth's table of sessions in the same database. Absent: its session tokens are refused. */
  sessions?: SessionTable
}

/** All problems with the settings: each is a sentence that names the setting and never its value. */
export class ConfigError extends Error {
  readonly problems: readonly string[]
  /** Whether a program that expects lines of JSON reads the message, or a person. */
  readonly environment: Config['environment']

  constructor(problems: readonly string[], environment: Config['environment']) {
    super(`The settings have problems:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
    this.environment = environment
  }
}

/** Requests per minute, in production. Many users may share an address; they share its quota too. */
const defaultQuotas = { perUser: 600, perAddress: 3_000 }

const minimumSecretLength = 32
const minimumDistinctCharacters = 8

/**
 * Reads the settings from environment variables. An empty variable counts as absent.
 *
 * @throws ConfigError with all problems at once
 */
export function readConfig(env: Environment): Config {
  const { environment, problems, read } = openSettings(env)
  const database = readDatabase(env, { environment, problems, read })
  const unpooled = read('DATABASE_URL_UNPOOLED', parseDatabaseUrl)
  const directDatabase = unpooled ?? (database && isPooler(database) ? undefined : database)
  const secret = read('BETTER_AUTH_SECRET', (text) => parseSecret(text, environment))
  const authUrl = read('BETTER_AUTH_URL', parseAuthUrl)
  const issuer = read('BETTER_AUTH_ISSUER', String)
  const audience = read('BETTER_AUTH_AUDIENCE', String)
  const publicUrl = read('PUBLIC_URL', parseOrigin)
  const authPath = authUrl && `${authUrl.href.replace(/\/$/, '')}/api/auth`
  const port = read('PORT', parsePort) ?? 8000
  const metricsPort = read('METRICS_PORT', parsePort)
  const metricsHost = read('METRICS_HOST', String) ?? '127.0.0.1'
  if (metricsPort !== undefined && metricsPort !== 0 && metricsPort === port)
    problems.push('METRICS_PORT must differ from PORT: the metrics are not for its clients')
  const trustedProxies = read('TRUSTED_PROXIES', parseProxies)
  const table = read('BETTER_AUTH_SESSION_TABLE', parseTable) ?? { table: 'session' }
  const columns = read('BETTER_AUTH_SESSION_COLUMNS', parseColumns) ?? sessionColumns
  const sessionsIn = read('BETTER_AUTH_SESSIONS', (text) => parseOneOf(text, ['database']))

  function readQuota(name: string, kind: keyof Quotas): Quotas {
    const whenAbsent = environment === 'production' ? defaultQuotas[kind] : 'off'
    const quota = read(name, parseQuota) ?? whenAbsent
    return quota === 'off' ? {} : { [kind]: quota }
  }

  const config: Config = {
    environment,
    host: read('HOST', String) ?? '0.0.0.0',
    port,
    logLevel: read('LOG_LEVEL', (text) => parseOneOf(text, logLevels)) ?? 'info',
    corsOrigins: read('CORS_ORIGINS', parseOrigins) ?? ['http://localhost:3000'],
    ...(publicUrl !== undefined && { publicUrl }),
    drainSeconds: read('DRAIN_SECONDS', parseDrain) ?? (environment === 'production' ? 5 : 0),
    docs: (read('DOCS', (text) => parseOneOf(text, ['on', 'off'])) ?? 'on') === 'on',
    ...(metricsPort !== undefined && { metrics: { host: metricsHost, port: metricsPort } }),
    maxTasksPerUser: read('MAX_TASKS_PER_USER', parseCount) ?? 10_000,
    maxStreamsPerUser: read('MAX_STREAMS_PER_USER', parseCount) ?? 50,
    quotas: {
      ...readQuota('RATE_LIMIT_PER_USER', 'perUser'),
      ...readQuota('RATE_LIMIT_PER_ADDRESS', 'perAddress'),
    },
    ...(trustedProxies && { trustedProxies }),
    ...(database && { database }),
    ...(database && directDatabase && { directDatabase }),
    ...(secret !== undefined && { secret }),
    ...(sessionsIn && { sessions: { ...table, ...columns } }),
    ...(authUrl && {
      authServer: {
        keySetUrl: new URL(`${authPath}/jwks`),
        issuer: issuer ?? authUrl.origin,
        audience: audience ?? authUrl.origin,
      },
    }),
  }

  if (publicUrl !== undefined && authPath !== undefined)
    config.resource = {
      url: `${publicUrl}/mcp`,
      authorizationServer: authPath,
      metadataUrl: `${publicUrl}/.well-known/oauth-protected-resource/mcp`,
    }
  if (sessionsIn && !env['DATABASE_URL']?.trim())
    problems.push(
      'BETTER_AUTH_SESSIONS needs DATABASE_URL: the database in which Better Auth keeps its sessions',
    )
  if (environment === 'production')
    if (!['SECRET', 'URL', 'SESSIONS'].some((name) => env[`BETTER_AUTH_${name}`]?.trim()))
      problems.push(
        'BETTER_AUTH_URL, BETTER_AUTH_SECRET or BETTER_AUTH_SESSIONS is required in production: without one of them, no token can be verified',
      )
  if (problems.length > 0) throw new ConfigError(problems, environment)
  return config
}

/**
 * Reads the settings of a command that needs only the database.
 *
 * @throws ConfigError with all problems at once
 */
export function readDatabaseConfig(env: Environment): Pick<Config, 'database'> {
  const settings = openSettings(env)
  const database = readDatabase(env, settings)
  const { problems, environment } = settings
  if (problems.length > 0) throw new ConfigError(problems, environment)
  return database ? { database } : {}
}

/**
 * What `NODE_ENV` says, and nothing else.
 *
 * @throws ConfigError if it has another value
 */
export function readEnvironment(env: Environment): Config['environment'] {
  const { environment, problems } = openSettings(env)
  if (problems.length > 0) throw new ConfigError(problems, environment)
  return environment
}

type Environment = Readonly<Record<string, string | undefined>>

type Settings = ReturnType<typeof openSettings>

function openSettings(env: Environment) {
  const problems: string[] = []

  function read<Value>(name: string, parse: (text: string) => Value): Value | undefined {
    const text = env[name]?.trim()
    if (text === undefined || text === '') return undefined
    try {
      return parse(text)
    } catch (problem) {
      problems.push(`${name} ${problem instanceof Error ? problem.message : 'is not valid'}`)
      return undefined
    }
  }

  const environment =
    read('NODE_ENV', (text) => parseOneOf(text, environments)) ??
    (env['NODE_ENV'] ? 'production' : 'development')
  return { environment, problems, read }
}

function readDatabase(
  env: Environment,
  { environment, problems, read }: Settings,
): DatabaseAddress | undefined {
  if (environment === 'production' && !env['DATABASE_URL']?.trim())
    problems.push(
      'DATABASE_URL is required in production: paste the connection string of your PostgreSQL',
    )
  return read('DATABASE_URL', parseDatabaseUrl)
}

function parseOneOf<const Choice extends string>(text: string, choices: readonly Choice[]): Choice {
  const choice = choices.find((candidate) => candidate === text)
  if (choice === undefined) throw new Error(`must be one of ${choices.join(', ')}`)
  return choice
}

/** Better Auth's own names for them. */
const sessionColumns = { token: 'token', expires: 'expiresAt', user: 'userId' }
const sqlName = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/

function parseTable(text: string): Pick<SessionTable, 'schema' | 'table'> {
  const names = text.split('.')
  const [table = '', schema] = names.toReversed()
  if (names.length > 2 || !names.every((name) => sqlName.test(name)))
    throw new Error('must be the name of a table such as session or auth.session, without quotes')
  return { table, ...(schema !== undefined && { schema }) }
}

function parseColumns(text: string): typeof sessionColumns {
  const names = text.split(',').map((name) => name.trim())
  const [token = '', expires = '', user = ''] = names
  if (names.length !== 3 || !names.every((name) => sqlName.test(name)))
    throw new Error('must be three names such as token,expires_at,user_id, without quotes')
  return { token, expires, user }
}

function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65_535)
    throw new Error('must be a whole number from 0 to 65535')
  return port
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error('must be a whole number from 1 to 9999999')
  return Number(text)
}

function parseDrain(text: string): number {
  const seconds = Number(text)
  if (!/^\d{1,3}$/.test(text) || seconds > 300)
    throw new Error('must be a whole number of seconds from 0 to 300')
  return seconds
}

function parseQuota(text: string): number | 'off' {
  if (text === 'off') return text
  if (!/^[1-9]\d{0,6}$/.test(text))
    throw new Error('must be off, or a whole number of requests per minute from 1 to 9999999')
  return Number(text)
}

/** Some people set the address of the front end, others that of Better Auth within it. */
function parseAuthUrl(text: string): URL {
  return parseHttpUrl(text.replace(/\/api\/auth\/*$/, ''))
}

function parseHttpUrl(text: string): URL {
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username || url.search)
    throw new Error('must be an http or https address such as https://app.example.com')
  return url
}

function parseOrigins(text: string): string[] {
  return text
    .split(',')
    .map((origin) => origin.trim().replace(/\/$/, ''))
    .filter((origin) => origin !== '')
    .map((origin) => {
      if (URL.parse(origin)?.origin !== origin || origin.includes('*'))
        throw new Error(
          'must be exact origins such as https://app.example.com, separated by commas; * is not one',
        )
      return origin
    })
}

function parseOrigin(text: string): string {
  const origin = text.replace(/\/$/, '')
  if (URL.parse(origin)?.origin !== origin || !/^https?:/.test(origin))
    throw new Error('must be an origin such as https://todo.example.com, without a path')
  return origin
}

function parseSecret(text: string, environment: Config['environment']): string {
  if (text.length < minimumSecretLength)
    throw new Error(
      `must have at least ${minimumSecretLength} characters; make one with: openssl rand -base64 32`,
    )
  if (environment === 'production' && new Set(text).size < minimumDistinctCharacters)
    throw new Error('is too easy to guess; make one with: openssl rand -base64 32')
  return text
}
