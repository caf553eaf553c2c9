import { onStopSignal } from './signals.ts' // first, see there
import { resolve } from 'node:path'
import type { Logger } from 'pino'
import { createApp } from './app.ts'
import { developmentSecret, secretFile } from './auth/development-secret.ts'
import { checkSessions, withSessions } from './auth/sessions.ts'
import { createTokenVerifier } from './auth/tokens.ts'
import { ConfigError, readConfig, type Config } from './config.ts'
import { isUnavailable } from './db/failures.ts'
import type { Database } from './db/pool.ts'
import { listen } from './db/listen.ts'
import { openDatabase } from './db/open.ts'
import { isExpected } from './expected.ts'
import { createLogger } from './http/logging.ts'
import { noMetrics } from './http/metrics.ts'
import { createOutput } from './http/output.ts'
import { createProxies } from './http/proxies.ts'
import { createRateLimits } from './http/rate-limit.ts'
import type { AppParts } from './parts.ts'
import { serve, serveMetrics } from './server.ts'
import { purgeRegularly } from './tasks/purge.ts'
import { taskChannel } from './tasks/columns.ts'

const dataDirectory = resolve('.data')
const outputPatience = 500 // ms, for a log that nobody reads

let log: Logger | undefined
const standardError = createOutput(2)
const standardOutput = createOutput(1, (dropped) =>
  log?.error({ dropped }, 'lines of this log were dropped: nobody was reading standard output'),
)

/** Ends the process once its last lines have been written or cannot be. */
async function exit(code: number): Promise<never> {
  await Promise.all([standardOutput.flush(outputPatience), standardError.flush(outputPatience)])
  process.exit(code)
}

/** Says why the server cannot start: on a line for a person, or in production as a line of the log. */
let sayWhy = (reason: string): void => standardError.write(`${reason}\n`)

async function start(): Promise<void> {
  const config = await withSecret(readConfig(process.env))
  const logger = (log = createLogger(config, standardOutput))
  if (config.environment === 'production') sayWhy = (reason) => logger.fatal(reason)
  outliveLostConnections(logger)
  onStopSignal((signal) => {
    logger.info(`${signal}: stopping before it serves`)
    void exit(0)
  })
  // Loaded only when metrics are on: it takes 30 ms and 18 MB.
  const exposition = config.metrics && (await import('./http/prometheus.ts')).createMetrics()
  const metrics = exposition ?? noMetrics
  const database = await openDatabase(
    config.database,
    dataDirectory,
    (problem) => logger.warn(`The database does not answer yet, trying again: ${problem}`),
    (problem) => logger.warn(problem),
    metrics,
  )
  if (config.sessions) await checkSessions(database, config.sessions)
  const draining = new AbortController()
  const endings: (() => Promise<void>)[] = []
  const app = createApp({
    database,
    verifyToken: withSessions(createTokenVerifier(config), database, config),
    corsOrigins: config.corsOrigins,
    publicUrl: config.publicUrl,
    resource: config.resource,
    maxTasksPerUser: config.maxTasksPerUser,
    maxStreamsPerUser: config.maxStreamsPerUser,
    proxies: createProxies(config.trustedProxies),
    rateLimits: createRateLimits(config.quotas),
    ...newsOf(config, database),
    draining: draining.signal,
    onStop: (end) => endings.push(end),
    environment: config.environment,
    withDocs: config.docs,
    log: logger,
    metrics,
  })
  const server = serve(app, config)
  const metricsServer = exposition && serveMetrics(exposition, config.metrics!)
  if (metricsServer) logger.info({ url: `${metricsServer.url.href}metrics` }, 'metrics')
  const stopPurging = purgeRegularly(database, logger, metrics)
  if (config.environment === 'production') logger.info({ url: server.url.href }, 'listening')
  else standardOutput.write(welcome(config, server.url))

  async function stop(signal: string): Promise<void> {
    if (draining.signal.aborted) return
    draining.abort()
    if (config.drainSeconds > 0) {
      logger.info(`${signal}: unready, stopping in ${config.drainSeconds} s`)
      await Bun.sleep(config.drainSeconds * 1000)
    }
    logger.info(`${signal}: finishing what runs`)
    stopPurging()
    try {
      await Promise.all([server.stop(), ...endings.map(async (end) => end())])
      await database.close()
      await metricsServer?.stop()
    } catch (err) {
      logger.error({ err }, 'not everything could be closed')
      await exit(1)
    }
    await exit(0)
  }
  onStopSignal((signal) => void stop(signal))
}

/**
 * When a database goes down, postgres.js can leave errors that nothing catches: it removes its listeners
 * from a socket while TLS is being set up. The connection is lost, and what needs one makes another
 * (db/connections.ts, db/listen.ts), so the server carries on. Any other uncaught error is a fault and
 * ends the process.
 */
function outliveLostConnections(logger: Logger): void {
  function judge(error: unknown): void {
    // Only its message: the rest of a driver's error may contain a row.
    if (isUnavailable(error))
      return logger.warn(`a connection to the database was lost: ${error.message}`)
    logger.fatal({ err: error }, 'a fault in this program: it exits and must be started again')
    void exit(1)
  }
  process.on('uncaughtException', judge)
  process.on('unhandledRejection', judge)
}

/** How this process learns of what other processes write. */
function newsOf(
  { database, directDatabase }: Config,
  { query }: Database,
): Pick<AppParts, 'followNews' | 'lookEvery'> {
  if (directDatabase)
    return {
      followNews: (listener) =>
        listen(directDatabase, taskChannel, {
          notify: async (payload) => query`select pg_notify(${taskChannel}, ${payload})`,
          ...listener,
        }),
    }
  // No other process can write to the embedded database, so there is no need to look.
  return database ? {} : { lookEvery: 15_000 }
}

type ConfigWithSecret = Config & { secretIsMade: boolean }

async function withSecret(config: Config): Promise<ConfigWithSecret> {
  if (config.secret !== undefined || config.environment === 'production')
    return { ...config, secretIsMade: false }
  return { ...config, secret: await developmentSecret(dataDirectory), secretIsMade: true }
}

/** What somebody who starts it by hand needs to know first: it explains most 401s and CORS errors. */
function welcome(
  { database, host, docs, authServer, secretIsMade, corsOrigins }: ConfigWithSecret,
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
  Docs       ${docs ? `${base}/docs` : 'none (DOCS=off)'}
  Data       ${data}
  Keys       ${keys}
  HS256      ${secret}
  Origins    ${corsOrigins.join(', ') || 'none'} (CORS_ORIGINS)
  Token      bun run token (without Bun: npx -y bun@${Bun.version} run token)

`
}

try {
  await start()
} catch (error) {
  if (error instanceof ConfigError && error.environment === 'production')
    createLogger({ environment: 'production', logLevel: 'fatal' }, standardOutput).fatal(
      `The settings have problems: ${error.problems.join('; ')}`,
    )
  else if (isExpected(error)) sayWhy(error.message)
  else standardError.write(`A fault in this program kept it from starting: ${Bun.inspect(error)}\n`)
  await exit(1)
}
