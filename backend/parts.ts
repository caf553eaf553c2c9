import type { Logger } from 'pino'
import { createAuthenticate } from './auth/current-user.ts'
import type { Resource, VerifyToken } from './auth/tokens.ts'
import type { Config } from './config.ts'
import type { Database } from './db/pool.ts'
import { createAnswers } from './http/answers.ts'
import { translate } from './errors.ts'
import { createFailureLog, createTroubleLog } from './http/failure-log.ts'
import { idleTimeout } from './http/framework.ts'
import type { Metrics } from './http/metrics.ts'
import type { Proxies } from './http/proxies.ts'
import type { RateLimits } from './http/rate-limit.ts'
import { createKeyStore } from './keys/store.ts'
import { createKeyVerifier, withKeys } from './keys/verifier.ts'
import { createMcp } from './mcp/endpoint.ts'
import { createFireReminders } from './reminders/reminders.ts'
import { createChangeFeed } from './sync/changes.ts'
import { createLive } from './sync/live.ts'
import { createTickets } from './sync/tickets.ts'
import type { FollowNews } from './sync/watch.ts'
import { createTaskList } from './tasks/list/list.ts'
import { createTaskStore } from './tasks/store.ts'

/** What a process gives its app. */
export type AppParts = {
  database: Database
  verifyToken: VerifyToken
  corsOrigins: string[]
  /** The origin at which clients reach this server. */
  publicUrl?: string | undefined
  /** What OAuth access tokens are for. */
  resource?: Resource | undefined
  maxTasksPerUser: number
  maxStreamsPerUser: number
  proxies: Proxies
  rateLimits: RateLimits
  /** How this process hears of changes that others make, and how often it looks: see `watch`. */
  followNews?: FollowNews | undefined
  lookEvery?: number | undefined
  /** The server will stop soon: it is unready, and closes the connections that it is asked on. */
  draining?: AbortSignal
  /** Takes what ends the event streams: a server that is told to stop waits for what is open. */
  onStop?: (end: () => Promise<void>) => void
  environment: Config['environment']
  log: Logger
  /** Whether `/docs` is there. Default: true */
  withDocs?: boolean
  metrics?: Metrics
}

/** Makes what the routes need: the stores and what is kept between requests. */
export function createParts(given: AppParts) {
  const { database, maxTasksPerUser, maxStreamsPerUser, followNews, lookEvery, log } = given
  const changes = createChangeFeed(database)
  const live = createLive({
    changes,
    fireReminders: createFireReminders(database),
    followNews,
    lookEvery,
    maxStreamsPerUser,
    onTrouble: createTroubleLog(log),
  })
  given.metrics?.watchStreams(live.count)
  given.onStop?.(async () => live.close())
  const keyVerifier = createKeyVerifier(database)
  const tickets = createTickets(database, keyVerifier)
  const tasks = createTaskStore(database, { maxTasksPerUser, onChange: live.announce })
  const list = createTaskList(database)
  const tellFailure = createFailureLog(log)
  const verifyToken = withKeys(given.verifyToken, keyVerifier)
  return {
    authenticate: createAuthenticate(verifyToken),
    authenticateAgent: createAuthenticate(verifyToken, given.resource),
    resource: given.resource,
    tellFailure,
    tickets,
    keys: createKeyStore(database),
    mcp: createMcp({ tasks, list, translate, tellFailure }),
    /** What the handlers of a user's routes find in their contexts. */
    ofUser: {
      tasks,
      list,
      answers: createAnswers({ idleTimeout }),
      limitUser: given.rateLimits.limitUser,
      changes,
      live,
      tickets,
    },
  }
}
