/** Prints the OpenAPI document, as `/docs/json` has it, without a server or a database. */
import { pino } from 'pino'
import { createApp } from '../app.ts'
import { createTokenVerifier } from '../auth/tokens.ts'
import { readConfig } from '../config.ts'
import { parseDatabaseUrl } from '../db/address.ts'
import { connect } from '../db/pool.ts'
import { noMetrics } from '../http/metrics.ts'
import { createProxies } from '../http/proxies.ts'
import { createRateLimits } from '../http/rate-limit.ts'

// Neither is ever used: a pool connects when it gets its first statement.
const config = readConfig({ BETTER_AUTH_SECRET: 'for the document, nothing is signed' })
const database = connect(parseDatabaseUrl('postgresql://nobody@localhost/nothing'))

const app = createApp({
  ...config,
  metrics: noMetrics,
  database,
  verifyToken: createTokenVerifier(config),
  proxies: createProxies(config.trustedProxies),
  rateLimits: createRateLimits(config.quotas),
  log: pino({ level: 'silent' }),
})
const response = await app.handle(
  new Request('http://localhost/docs/json', { headers: { host: 'localhost' } }),
)
process.stdout.write(`${await response.text()}\n`)
await database.close()
