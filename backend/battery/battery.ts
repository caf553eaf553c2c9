import type { PgBouncer } from '../tests/support/pgbouncer.ts'
import type { Postgres } from '../tests/support/postgres.ts'
import type { Report } from './report.ts'

/** What every part of the battery is given. */
export type Battery = {
  postgres: Postgres
  pgbouncer: PgBouncer
  /** From which everything that is random in the run follows. */
  seed: number
  /** A run of a minute, as every change gets it. */
  short: boolean
  report: Report
}
