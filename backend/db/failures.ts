import postgres from 'postgres'
import { isOfConnection } from './connection-errors.ts'
import { LineLost } from './socket.ts'

/** The database cannot be reached, did not answer in time, or is going down. */
export class DatabaseUnavailable extends Error {
  override readonly name = 'DatabaseUnavailable'
  /** The SQLSTATE, or what the network or TLS calls the error. */
  readonly code: string | undefined

  constructor(message: string, code?: string) {
    super(message)
    this.code = code
  }
}

/** A row or a table was locked for longer than the statement may wait. Nothing was changed. */
export class Locked extends DatabaseUnavailable {}

/** PostgreSQL refused a statement. Says where and why, and nothing about its values. */
export class StatementFailed extends Error {
  override readonly name = 'StatementFailed'
  readonly sqlState: string
  /** The name of the constraint that was violated. */
  readonly constraint: string | undefined

  constructor(sqlState: string, message: string, constraint?: string) {
    super(message)
    this.sqlState = sqlState
    this.constraint = constraint
  }
}

/** What a server that a failover has left behind says to a write. */
export const readsOnly = '25006'

/**
 * SQLSTATEs after which the same request may succeed later (PostgreSQL, appendix A): the connection
 * (08), the credentials (28, while they are being changed), the database (3D), a serialization
 * failure or deadlock (40), resources (53), the server stopping (57P, 58), a statement cancelled
 * (57014), a lock (55P03), and a server that only reads, which a failover leaves behind (25006).
 */
const passing = /^(08...|28...|3D...|40...|53...|57P..|57014|58...|55P03|25006)$/

const lockNotAvailable = '55P03'

export type Describe = (error: postgres.PostgresError) => string

/** PostgreSQL's own message may repeat a user's text, so only the place of a query's error is told. */
export function sayPlace({
  code,
  routine,
  constraint_name: constraint,
}: postgres.PostgresError): string {
  return [`SQLSTATE ${code}`, routine && `in ${routine}`, constraint && `on ${constraint}`]
    .filter(Boolean)
    .join(' ')
}

/** A script is this program's own text, so the whole message may be told. */
export function sayAll({ code, message }: postgres.PostgresError): string {
  return `${message} (SQLSTATE ${code})`
}

/**
 * Whether it ended the session or kept it from beginning. Its message is about roles, databases and
 * settings, never about the values of a statement, so it may be told in full. PgBouncer sends the severity
 * in only one of the two fields.
 */
function isOfSession({ severity, severity_local: local }: postgres.PostgresError): boolean {
  return severity === 'FATAL' || local === 'FATAL'
}

/** Whether an error of the driver means that the database cannot be reached. */
export function isUnavailable(error: unknown): error is Error {
  return error instanceof Error && failureOf(error, sayPlace) instanceof DatabaseUnavailable
}

/** What is told about an error while signing in, and its code. */
export function causeOf(error: unknown): { message: string; code: string | undefined } {
  const cause = failureOf(error, sayPlace)
  const { message } = cause
  if (cause instanceof StatementFailed) return { message, code: cause.sqlState }
  return { message, code: cause instanceof DatabaseUnavailable ? cause.code : undefined }
}

export function failureOf(error: unknown, describe: Describe): Error {
  if (error instanceof DatabaseUnavailable) return error
  if (error instanceof LineLost) return new DatabaseUnavailable(error.message, error.code)
  if (!(error instanceof Error)) return new DatabaseUnavailable(String(error))
  const code = 'code' in error ? String(error.code) : ''
  if (error instanceof postgres.PostgresError) {
    const message = isOfSession(error) ? sayAll(error) : describe(error)
    if (code === lockNotAvailable) return new Locked(message, code)
    return passing.test(code)
      ? new DatabaseUnavailable(message, code)
      : new StatementFailed(code, message, error.constraint_name)
  }
  if (isOfConnection(error, code)) return new DatabaseUnavailable(`${code}: ${error.message}`, code)
  return error
}
