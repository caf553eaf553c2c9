import { resolve } from 'node:path'
import type { Logger } from 'pino'
import { createApp, type AppParts } from './app.ts'
import { developmentSecret } from './auth/development-secret.ts'
import { checkSessions, SessionsMissing, withSessions } from './auth/sessions.ts'
import { createTokenVerifier } from './auth/tokens.ts'
import { ConfigError, readConfig, type Config } from './config.ts'
import { DatabaseUnavailable, isUnavailable, type Database } from './db/pool.ts'
import { DirectoryInUse } from './db/embedded.ts'
import { listen } from './db/listen.ts'
import { MigrationFailed } from './db/migrate.ts'
import { openDatabase } from './db/open.ts'
import { createLogger } from './http/logging.ts'
import { createProxies } from './http/proxies.ts'
import { createRateLimits } from './http/rate-limit.ts'
import { PortTaken, serve } from './server.ts'
import { purgeRegularly } from './tasks/purge.ts'
import { taskChannel } from './tasks/columns.ts'

const dataDirectory = resolve('.data')

async function start(): Promise<void> {
  const config = await withSecret(readConfig(process.env))
  const log = createLogger(config)
  outliveLostConnections(log)
  const database = await openDatabase(config.database, dataDirectory, (problem) =>
    log.warn(`The database does not answer yet, trying again: ${problem}`),
  )
  if (config.sessions) await checkSessions(database, config.sessions)
  const draining = new AbortController()
  const stopping = new AbortController()
  const app = createApp({
    database,
    verifyToken: withSessions(createTokenVerifier(config), database, config),
    corsOrigins: config.corsOrigins,
    maxTasksPerUser: config.maxTasksPerUser,
    maxStreamsPerUser: config.maxStreamsPerUser,
    proxies: createProxies(config.trustedProxies),
    rateLimits: createRateLimits(config.quotas),
    ...newsOf(config, database),
    draining: draining.signal,
    stopping: stopping.signal,
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

async function withSecret(config: Config): Promise<Config> {
  if (config.secret !== undefined || config.environment === 'production') return config
  return { ...config, secret: await developmentSecret(dataDirectory) }
}

function welcome({ database, host }: Config, { port }: URL): string {
  const base = `http://${host === '0.0.0.0' ? 'localhost' : host}:${port}`
  return `
  Todo API   ${base}/api/tasks
  Docs       ${base}/docs
  Data       ${database ? `PostgreSQL at ${database.host}` : `${dataDirectory} (embedded; set DATABASE_URL for your own PostgreSQL)`}
  Token      bun run token

`
}

try {
  await start()
} catch (error) {
  const isExpected = [
    ConfigError,
    DatabaseUnavailable,
    DirectoryInUse,
    MigrationFailed,
    PortTaken,
    SessionsMissing,
  ]
  if (!isExpected.some((kind) => error instanceof kind)) throw error
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}
