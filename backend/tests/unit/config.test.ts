import { describe, expect, test } from 'bun:test'
import { ConfigError, readConfig } from '../../config.ts'

const secret = '0123456789abcdefghijklmnopqrstuv'
const url = 'postgresql://user:pass@host.example/db'

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    readConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

test('without any setting there is a development server on port 8000', () => {
  const expected: unknown = {
    environment: 'development',
    host: '0.0.0.0',
    port: 8000,
    logLevel: 'info',
    corsOrigins: ['http://localhost:3000'],
    docs: true,
    maxTasksPerUser: 10_000,
    drainSeconds: 0,
    maxStreamsPerUser: 50,
    quotas: {},
  }
  expect(readConfig({})).toEqual(expected as never)
  expect(readConfig({ PORT: '', DATABASE_URL: ' ', BETTER_AUTH_SECRET: '' })).toEqual(
    expected as never,
  )
})

test('every setting is read', () => {
  const config = readConfig({
    NODE_ENV: 'production',
    HOST: '127.0.0.1',
    PORT: '80',
    LOG_LEVEL: 'warn',
    CORS_ORIGINS: 'https://a.example, https://b.example:8443/ ,',
    DATABASE_URL: url,
    BETTER_AUTH_SECRET: secret,
    BETTER_AUTH_URL: 'https://a.example/',
    BETTER_AUTH_AUDIENCE: 'tasks',
    DRAIN_SECONDS: '15',
    PUBLIC_URL: 'https://todo.example/',
    DOCS: 'off',
    METRICS_PORT: '9464',
  })
  expect(config).toMatchObject({
    environment: 'production',
    host: '127.0.0.1',
    port: 80,
    logLevel: 'warn',
    corsOrigins: ['https://a.example', 'https://b.example:8443'],
    drainSeconds: 15,
    publicUrl: 'https://todo.example',
    resource: {
      url: 'https://todo.example/mcp',
      authorizationServer: 'https://a.example/api/auth',
      metadataUrl: 'https://todo.example/.well-known/oauth-protected-resource/mcp',
    },
    docs: false,
    metrics: { host: '127.0.0.1', port: 9464 },
    database: { host: 'host.example', database: 'db' },
    secret,
  })
  expect(config.authServer).toEqual({
    keySetUrl: new URL('https://a.example/api/auth/jwks'),
    issuer: 'https://a.example',
    audience: 'tasks',
  })
})

test.each([
  ['https://a.example', 'https://a.example/api/auth/jwks'],
  ['https://a.example/', 'https://a.example/api/auth/jwks'],
  ['https://a.example/api/auth', 'https://a.example/api/auth/jwks'],
  ['https://a.example:8443/api/auth/', 'https://a.example:8443/api/auth/jwks'],
  ['https://a.example/app', 'https://a.example/app/api/auth/jwks'],
  ['https://a.example/app/api/auth', 'https://a.example/app/api/auth/jwks'],
])('with BETTER_AUTH_URL=%s the keys are at %s', (BETTER_AUTH_URL, keySetUrl) => {
  const { origin } = new URL(keySetUrl)
  expect(readConfig({ BETTER_AUTH_URL }).authServer).toEqual({
    keySetUrl: new URL(keySetUrl),
    issuer: origin,
    audience: origin,
  })
})

test('all problems are reported at once, by name and without values', () => {
  const env = {
    NODE_ENV: 'staging-7',
    PORT: '8000x',
    LOG_LEVEL: 'loud-7',
    DATABASE_URL: 'mysql://root:hunter2@db-7',
    BETTER_AUTH_SECRET: 'short-7',
    BETTER_AUTH_URL: 'ftp://auth-7',
    CORS_ORIGINS: '*',
    MAX_STREAMS_PER_USER: 'many-7',
    RATE_LIMIT_PER_USER: 'fast-7',
    RATE_LIMIT_PER_ADDRESS: '0',
    TRUSTED_PROXIES: 'proxy-7',
    DOCS: 'off-7',
    METRICS_PORT: 'port-7',
  }
  const problems = problemsOf(env)
  expect(problems.map((problem) => problem.split(' ')[0])).toEqual([
    'NODE_ENV',
    'DATABASE_URL',
    'BETTER_AUTH_SECRET',
    'BETTER_AUTH_URL',
    'PORT',
    'METRICS_PORT',
    'TRUSTED_PROXIES',
    'LOG_LEVEL',
    'CORS_ORIGINS',
    'DOCS',
    'MAX_STREAMS_PER_USER',
    'RATE_LIMIT_PER_USER',
    'RATE_LIMIT_PER_ADDRESS',
  ])
  for (const value of ['-7', 'hunter2', '8000x']) expect(problems.join('\n')).not.toContain(value)
})

test('the metrics have a port of their own', () => {
  expect(problemsOf({ METRICS_PORT: '8000' })).toEqual([
    'METRICS_PORT must differ from PORT: the metrics are not for its clients',
  ])
  expect(readConfig({ METRICS_PORT: '0', METRICS_HOST: '::', PORT: '0' }).metrics).toEqual({
    host: '::',
    port: 0,
  })
})

describe('production', () => {
  test('gives load balancers 5 seconds to notice that a server stops', () => {
    const env = { NODE_ENV: 'production', DATABASE_URL: url, BETTER_AUTH_SECRET: secret }
    expect(readConfig(env).drainSeconds).toBe(5)
  })

  test('needs a database and a way to verify tokens', () => {
    expect(problemsOf({ NODE_ENV: 'production' })).toEqual([
      'DATABASE_URL is required in production: paste the connection string of your PostgreSQL',
      'BETTER_AUTH_URL, BETTER_AUTH_SECRET or BETTER_AUTH_SESSIONS is required in production: without one of them, no token can be verified',
    ])
  })

  test.each([
    { BETTER_AUTH_SECRET: secret },
    { BETTER_AUTH_URL: 'https://a.example' },
    { BETTER_AUTH_SESSIONS: 'database' },
  ])('is content with %j', (auth) => {
    expect(problemsOf({ NODE_ENV: 'production', DATABASE_URL: url, ...auth })).toEqual([])
  })

  test.each(['x'.repeat(64), 'abcabcabcabcabcabcabcabcabcabcabcabc'])(
    'takes no secret that is easy to guess, as development does: %s',
    (easy) => {
      const env = { DATABASE_URL: url, BETTER_AUTH_SECRET: easy }
      expect(problemsOf({ NODE_ENV: 'production', ...env })).toEqual([
        'BETTER_AUTH_SECRET is too easy to guess; make one with: openssl rand -base64 32',
      ])
      expect(readConfig(env).secret).toBe(easy)
    },
  )
})

test('sessions are looked up under Better Auth’s own names, unless told others', () => {
  const settings = { DATABASE_URL: url, BETTER_AUTH_SESSIONS: 'database' }
  const names = { table: 'session', token: 'token', expires: 'expiresAt', user: 'userId' }
  expect(readConfig(settings).sessions).toEqual(names)
  expect(readConfig({ DATABASE_URL: url }).sessions).toBeUndefined()
  const drizzle = {
    BETTER_AUTH_SESSION_TABLE: 'auth.sessions',
    BETTER_AUTH_SESSION_COLUMNS: 'token, expires_at,user_id',
  }
  expect(readConfig({ ...settings, ...drizzle }).sessions).toEqual({
    schema: 'auth',
    table: 'sessions',
    token: 'token',
    expires: 'expires_at',
    user: 'user_id',
  })
})

describe('limits of requests', () => {
  const settings = { DATABASE_URL: url, BETTER_AUTH_SECRET: secret }
  const quotasOf = (env: Record<string, string>) => readConfig({ ...settings, ...env }).quotas

  test('are on in production and off elsewhere unless a setting says otherwise', () => {
    expect(quotasOf({ NODE_ENV: 'production' })).toEqual({ perUser: 600, perAddress: 3_000 })
    expect(quotasOf({ NODE_ENV: 'test' })).toEqual({})
    expect(quotasOf({ RATE_LIMIT_PER_USER: '7', RATE_LIMIT_PER_ADDRESS: '8' })).toEqual({
      perUser: 7,
      perAddress: 8,
    })
    expect(quotasOf({ NODE_ENV: 'production', RATE_LIMIT_PER_ADDRESS: 'off' })).toEqual({
      perUser: 600,
    })
  })

  test('believe the proxies that are named, and no others', () => {
    const { trustedProxies } = readConfig({ TRUSTED_PROXIES: ' 10.0.0.0/8, 192.0.2.7 ,fd00::/8,' })
    expect(trustedProxies!.check('10.255.0.1')).toBe(true)
    expect(trustedProxies!.check('192.0.2.7')).toBe(true)
    expect(trustedProxies!.check('fd12::1', 'ipv6')).toBe(true)
    expect(trustedProxies!.check('192.0.2.8')).toBe(false)
    expect(trustedProxies!.check('fe80::1', 'ipv6')).toBe(false)
    expect(readConfig({}).trustedProxies).toBeUndefined()
  })
})

test.each([
  ['BETTER_AUTH_SECRET', 'x'.repeat(31)],
  ['PORT', '-1'],
  ['PORT', '65536'],
  ['PORT', '80.5'],
  ['PORT', '1e3'],
  ['MAX_TASKS_PER_USER', '0'],
  ['MAX_TASKS_PER_USER', '1e4'],
  ['DRAIN_SECONDS', '-1'],
  ['DRAIN_SECONDS', '301'],
  ['DRAIN_SECONDS', '5s'],
  ['MAX_STREAMS_PER_USER', '0'],
  ['RATE_LIMIT_PER_USER', '-1'],
  ['RATE_LIMIT_PER_USER', '1e3'],
  ['RATE_LIMIT_PER_ADDRESS', 'OFF'],
  ['TRUSTED_PROXIES', 'proxy.example'],
  ['TRUSTED_PROXIES', '*'],
  ['TRUSTED_PROXIES', '10.0.0.0/33'],
  ['TRUSTED_PROXIES', '10.0.0.0/-1'],
  ['TRUSTED_PROXIES', '10.0.0/8'],
  ['TRUSTED_PROXIES', 'fd00::/129'],
  ['TRUSTED_PROXIES', 'fe80::1%eth0'],
  ['TRUSTED_PROXIES', '10.0.0.0/8/8'],
  ['BETTER_AUTH_SESSIONS', 'redis'],
  ['BETTER_AUTH_SESSIONS', 'database'], // the embedded one is not Better Auth's
  ['BETTER_AUTH_SESSION_TABLE', '"session"'],
  ['BETTER_AUTH_SESSION_TABLE', 'a.b.c'],
  ['BETTER_AUTH_SESSION_COLUMNS', 'token,expires_at'],
  ['BETTER_AUTH_SESSION_COLUMNS', 'token,expires_at,user"id'],
  ['BETTER_AUTH_URL', 'localhost:3000'],
  ['BETTER_AUTH_URL', 'https://user:pass@a.example'],
  ['PUBLIC_URL', 'todo.example'],
  ['PUBLIC_URL', 'https://todo.example/api'],
  ['PUBLIC_URL', 'ftp://todo.example'],
  ['CORS_ORIGINS', 'localhost:3000'],
  ['CORS_ORIGINS', 'https://a.example/path'],
  ['CORS_ORIGINS', 'https://*.example'],
  ['CORS_ORIGINS', 'https://a.example,*'],
  ['CORS_ORIGINS', 'null'],
])('%s=%s is refused', (name, value) => {
  expect(problemsOf({ [name]: value }).map((problem) => problem.split(' ')[0])).toEqual([name])
})
