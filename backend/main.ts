import { resolve } from 'node:path'
import type { Logger } from 'pino'
import { createApp, type AppParts } from './app.ts'
import { developmentSecret, secretFile } from './auth/development-secret.ts'
import { createTokenVerifier } from './auth/tokens.ts'
import { ConfigError, readConfig, type Config } from './config.ts'
import { DatabaseUnavailable, isUnavailable, type Database } from './db/pool.ts'
import { DirectoryUnusable } from './db/data-directory.ts'
import { listen } from './db/listen.ts'
import { MigrationFailed } from './db/migrate.ts'
import { openDatabase } from './db/open.ts'
import { DatabaseUnusable } from './db/refusal.ts'
import { createLogger } from './http/logging.ts'
import { createProxies } from './http/proxies.ts'
import { createRateLimits } from './http/rate-limit.ts'
import { PortTaken, serve } from './server.ts'
import { purgeRegularly } from './tasks/purge.ts'
import { taskChannel } from './tasks/columns.ts'

const dataDirectory = resolve('.data')

/** Tells why the server cannot start: a line for a person, in production one of the log. */
let sayWhy = (reason: string): void => void process.stderr.write(`${reason}\n`)

async function start(): Promise<void> {
  const config = await withSecret(readConfig(process.env))
  const log = createLogger(config)
  if (config.environment === 'production') sayWhy = (reason) => log.fatal(reason)
  outliveLostConnections(log)
  const database = await openDatabase(config.database, dataDirectory, (problem) =>
    log.warn(`The database does not answer yet, trying again: ${problem}`),
  )
  const draining = new AbortController()
  const stopping = new AbortController()
  const app = createApp({
    database,
    verifyToken: createTokenVerifier(config),
    corsOrigins: config.corsOrigins,
    maxTasksPerUser: config.maxTasksPerUser,
    maxStreamsPerUser: config.maxStreamsPerUser,
    proxies: createProxies(config.trustedProxies),
    rateLimits: createRateLimits(config.quotas),
    ...newsOf(config, database),
    draining: draining.signal,
    stopping: stopping.signal,
    environment: config.environment,
    log,
  })
  const server = serve(app, config)
  const stopPurging = purgeRegularly(database, log)
  if (config.environment === 'production') log.info({ url: server.url.href }, 'listening')
  else process.stdout.write(welcome(config, server.url))

  async function stop(signal: string): Promise<void> {
    if (draining.signal.aborted) return
    draining.abort()
    if (config.drainSeconds > 0) {
      log.info(`${signal}: unready, stopping in ${config.drainSeconds} s`)
      await Bun.sleep(config.drainSeconds * 1000)
    }
    stopping.abort()
    log.info(`${signal}: finishing what runs`)
    stopPurging()
    await server.stop()
    await database.close()
    process.exit(0)
  }
  process.on('SIGTERM', (signal) => void stop(signal))
  process.on('SIGINT', (signal) => void stop(signal))
}

/**
 * When a database goes down, postgres.js can leave errors that are nobody's: it takes its listeners
 * off a socket while TLS is set up. The connections are made again in any case, so the server stays.
 * Whatever else was not caught is a fault, and ends the process.
 */
function outliveLostConnections(log: Logger): void {
  function judge(error: unknown): void {
    // Its message alone: the rest of a driver's error may hold a row.
    if (isUnavailable(error))
      return log.warn(`a connection to the database was lost: ${error.message}`)
    log.fatal({ err: error }, 'this was not to happen')
    process.exit(1)
  }
  process.on('uncaughtException', judge)
  process.on('unhandledRejection', judge)
}

/** How this process hears of what others write. */
function newsOf(
  { database, directDatabase }: Config,
  { query }: Database,
): Pick<AppParts, 'listen' | 'lookEvery'> {
  if (directDatabase)
    return {
      listen: (listener) =>
        listen(directDatabase, taskChannel, {
          notify: async (payload) => query`select pg_notify(${taskChannel}, ${payload})`,
          ...listener,
        }),
    }
  // Nobody else can write to the embedded database; there, looking is for what cannot happen.
  return database ? {} : { lookEvery: 15_000 }
}

type ConfigWithSecret = Config & { secretIsMade: boolean }

async function withSecret(config: Config): Promise<ConfigWithSecret> {
  if (config.secret !== undefined || config.environment === 'production')
    return { ...config, secretIsMade: false }
  return { ...config, secret: await developmentSecret(dataDirectory), secretIsMade: true }
}

/** What somebody who starts it by hand needs to know first: most 401s and CORS errors are told here. */
function welcome(
  { database, host, authServer, secretIsMade, corsOrigins }: ConfigWithSecret,
  { port }: URL,
): string {
  const base = `http://${host === '0.0.0.0' ? 'localhost' : host}:${port}`
  const data = database
    ? `PostgreSQL at ${database.host}`
    : `${dataDirectory} (embedded; set DATABASE_URL for your own PostgreSQL)`
  const keys = authServer
    ? `${authServer.keySetUrl.href}, for tokens of ${authServer.issuer}`
    : "none (set BETTER_AUTH_URL to take Better Auth's own tokens)"
  const secret = secretIsMade
    ? `on, with the secret in ${secretFile(dataDirectory)} (BETTER_AUTH_SECRET is not set)`
    : 'on, with BETTER_AUTH_SECRET'
  return `
  Todo API   ${base}/api/tasks
  Docs       ${base}/docs
  Data       ${data}
  Keys       ${keys}
  HS256      ${secret}
  Origins    ${corsOrigins.join(', ') || 'none'} (CORS_ORIGINS)
  Token      bun run token

`
}

try {
  await start()
} catch (error) {
  const isExpected = [
    ConfigError,
    DatabaseUnavailable,
    DatabaseUnusable,
    DirectoryUnusable,
    MigrationFailed,
    PortTaken,
  ]
  if (!isExpected.some((kind) => error instanceof kind)) throw error
  sayWhy(error instanceof Error ? error.message : String(error))
  process.exit(1)
}
