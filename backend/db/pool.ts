import postgres from 'postgres'
import { cancelledWithin } from './connection.ts'
import { isOfConnection } from './connection-errors.ts'
import { createConnections, type Asking, type Connections } from './connections.ts'
import { noDatabaseMetrics, type DatabaseMetrics } from './metrics.ts'
import type { Lent } from './open-connections.ts'
import { createPrepared } from './prepared.ts'
import { LineLost, type Place } from './socket.ts'
import { createTurns } from './turns.ts'
import { WaitedTooLong } from './waiting.ts'

/** Runs one SQL statement with its parameters bound, and gives its rows. */
export type Query = <Row extends object>(
  strings: TemplateStringsArray,
  ...parameters: Parameter[]
) => Promise<Row[]>

/**
 * A piece of SQL with the values of its placeholders. The driver's own fragments are not used: each is a
 * promise, which runs if it is awaited or returned by mistake, and composing a statement from them cost
 * more than everything else that a write asks of this process.
 */
export class Fragment {
  /** The texts around the values: one more than there are values. */
  readonly texts: readonly string[]
  readonly values: readonly postgres.SerializableParameter[]
  private text: string | undefined

  constructor(strings: readonly string[], parameters: readonly Parameter[]) {
    const texts: string[] = []
    const values: postgres.SerializableParameter[] = []
    let text = strings[0]!
    for (let index = 0; index < parameters.length; index += 1) {
      const parameter = parameters[index]!
      if (parameter instanceof Fragment) {
        text += parameter.texts[0]!
        for (let place = 0; place < parameter.values.length; place += 1) {
          texts.push(text)
          values.push(parameter.values[place]!)
          text = parameter.texts[place + 1]!
        }
      } else {
        texts.push(text)
        values.push(parameter)
        text = ''
      }
      text += strings[index + 1]!
    }
    texts.push(text)
    this.texts = texts
    this.values = values
  }

  /** The statement, with `$1` and so on in place of the values. */
  get sql(): string {
    this.text ??= this.texts.reduce((sql, text, index) => `${sql}$${index}${text}`)
    return this.text
  }

  /** The same SQL with other values: a statement that is sent often is composed once. */
  with(values: readonly postgres.SerializableParameter[]): Fragment {
    const same = new Fragment(this.texts, values)
    same.text = this.sql
    return same
  }

  /** A template as a statement. A template that is only a fragment is that fragment. */
  static of(strings: readonly string[], parameters: readonly Parameter[]): Fragment {
    const [whole] = parameters
    const isWhole = whole instanceof Fragment && parameters.length === 1 && !strings.some(Boolean)
    return isWhole ? whole : new Fragment(strings, parameters)
  }
}

/** A value for a placeholder, or a piece of SQL. */
export type Parameter = postgres.SerializableParameter | Fragment

export type Database = {
  /**
   * For statements that no user asked for. Past the deadline, the statement is cancelled and the caller
   * gets `DatabaseUnavailable`.
   *
   * @throws DatabaseUnavailable if asking again may help, StatementFailed if it will not
   */
  query: Query
  /**
   * For what a user asked for. If all connections are in use, users take turns; the deadline is the same
   * and includes the wait.
   *
   * @throws QueueFull, WaitedTooLong, WaitedForOneself, and what `query` throws
   */
  queryFor: (user: string) => Query
  /** For a statement that serves several requests: like `query`, but with its own deadline. */
  queryWithin: (milliseconds: number, requests: number) => Query
  /** How long a request may take, its waiting included, in milliseconds. */
  deadline: number
  /** The most statements that run at a time. */
  connections: number
  fragment: (strings: TemplateStringsArray, ...parameters: Parameter[]) => Fragment
  /**
   * Runs a script of several statements as the one transaction that PostgreSQL makes of a simple
   * query. It is one message, so it works through a transaction pooler and cannot be half applied when
   * the connection is lost.
   */
  script: (sql: string, deadline: number) => Promise<void>
  /** Waits for running statements, at most for the deadline of one, and disconnects. */
  close: () => Promise<void>
}

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

export type ConnectOptions = {
  /** How long a statement may take, waiting for a connection included, in milliseconds. */
  deadline?: number
  metrics?: DatabaseMetrics
  /** Called when the database has refused a write (25006) and its connections are being replaced. */
  onReadsOnly?: () => void
}

const defaultDeadline = 5_000
const longestQueue = 500 // statements of one user

/** Opens a pool of connections. The first is made for the first statement. */
export function connect(
  place: Place,
  {
    deadline = defaultDeadline,
    metrics = noDatabaseMetrics,
    onReadsOnly = () => {},
  }: ConnectOptions = {},
): Database {
  // One session serves all connections of the embedded database.
  const most = 'socket' in place ? 1 : place.maxConnections
  const connections = createConnections(place, { most, within: deadline })
  const isPrepared = createPrepared()
  const perUser = Math.max(Math.floor(most / 2), 1)
  const turns = createTurns({ places: most, perUser, longestQueue, deadline })

  async function query<Row extends object>(
    { sql: text, values }: Fragment,
    milliseconds: number,
    requests = 1,
  ): Promise<Row[]> {
    const prepare = isPrepared(text)
    const statement = { text, values, prepare, milliseconds, describe: sayPlace, onReadsOnly }
    const began = performance.now()
    try {
      return await run<Row>(connections, statement)
    } catch (error) {
      // A set of requests that met a locked row is sent again, one by one.
      if (error instanceof DatabaseUnavailable && !(error instanceof Locked))
        metrics.countUnavailable(requests)
      throw error
    } finally {
      metrics.observeStatement((performance.now() - began) / 1000, requests)
    }
  }

  async function queryInTurn<Row extends object>(
    user: string,
    statement: Fragment,
  ): Promise<Row[]> {
    try {
      return await turns.run(user, async (left) => query<Row>(statement, left))
    } catch (error) {
      if (error instanceof WaitedTooLong) metrics.countUnavailable(1)
      throw error
    }
  }

  return {
    query: async (strings, ...parameters) => query(Fragment.of(strings, parameters), deadline),
    queryFor: (user) =>
      async function queryAsUser<Row extends object>(
        strings: TemplateStringsArray,
        ...parameters: Parameter[]
      ) {
        return queryInTurn<Row>(user, Fragment.of(strings, parameters))
      },
    queryWithin:
      (milliseconds, requests) =>
      async (strings, ...parameters) =>
        query(Fragment.of(strings, parameters), milliseconds, requests),
    deadline,
    connections: most,
    fragment: (strings, ...parameters) => new Fragment(strings, parameters),
    async script(text, milliseconds) {
      const statement = { text, values: [], prepare: false, milliseconds, describe: sayAll }
      await run(connections, { ...statement, onReadsOnly })
    },
    close: async () => connections.close(deadline),
  }
}

type Statement = {
  text: string
  /** Without values it is a simple query, and its text may have several statements. */
  values: readonly postgres.SerializableParameter[]
  prepare: boolean
  milliseconds: number
  describe: Describe
  onReadsOnly: () => void
}

/** Runs a statement on a connection that nothing else uses, and cancels it past its deadline. */
async function run<Row extends object>(
  connections: Connections,
  { text, values, prepare, milliseconds, describe, onReadsOnly }: Statement,
): Promise<Row[]> {
  const { promise, resolve, reject } = Promise.withResolvers<Row[]>()
  let used: Lent | undefined
  let silence: Timer | undefined

  async function use(lent: Lent): Promise<void> {
    used = lent
    try {
      const rows = await lent.connection.sql.unsafe<Row[]>(text, [...values], { prepare })
      expectEnd(rows)
      resolve(rows)
    } catch (error) {
      reject(translate(error, describe))
      // After an error that PostgreSQL did not report itself, the state of the connection is unknown.
      if (!(error instanceof postgres.PostgresError)) abandon(lent)
      else if (error.code === readsOnly && connections.replace()) onReadsOnly()
    } finally {
      clearTimeout(timer)
      clearTimeout(silence)
      connections.giveBack(lent)
    }
  }

  function giveUp(): void {
    reject(new DatabaseUnavailable(`No answer within ${milliseconds} ms`))
    connections.withdraw(asking)
    if (used === undefined) return
    used.isSpent = true
    used.connection.cancel()
    silence = setTimeout(abandonAll, cancelledWithin, used)
  }

  /** If one line has gone dead without a word, the others probably have too. */
  function abandonAll(lent: Lent): void {
    abandon(lent)
    connections.replace()
  }

  const timer = setTimeout(giveUp, milliseconds)
  const asking: Asking = {
    use: (lent) => void use(lent),
    refuse(error) {
      clearTimeout(timer)
      // It was signing in that was refused, for whatever reason, not the statement.
      const { message, code } = causeOf(error)
      reject(new DatabaseUnavailable(message, code))
    },
  }
  connections.ask(asking)
  return promise
}

function abandon(lent: Lent): void {
  lent.isSpent = true
  lent.connection.drop()
}

/**
 * A finished result names its command; a script gives an array of them. A result that names none must
 * not be taken for one without rows.
 */
function expectEnd(result: unknown): void {
  const results: unknown[] = Array.isArray(result) && !('command' in result) ? result : [result]
  if (!results.every(namesCommand))
    throw new DatabaseUnavailable('The connection was lost during the statement')
}

function namesCommand(result: unknown): boolean {
  return Array.isArray(result) && 'command' in result && typeof result.command === 'string'
}

/** What a server that a failover has left behind says to a write. */
const readsOnly = '25006'

/**
 * SQLSTATEs after which the same request may succeed later (PostgreSQL, appendix A): the connection
 * (08), the credentials (28, while they are being changed), the database (3D), a serialization
 * failure or deadlock (40), resources (53), the server stopping (57P, 58), a statement cancelled
 * (57014), a lock (55P03), and a server that only reads, which a failover leaves behind (25006).
 */
const passing = /^(08...|28...|3D...|40...|53...|57P..|57014|58...|55P03|25006)$/

const lockNotAvailable = '55P03'

type Describe = (error: postgres.PostgresError) => string

/** PostgreSQL's own message may repeat a user's text, so only the place of a query's error is told. */
function sayPlace({ code, routine, constraint_name: constraint }: postgres.PostgresError): string {
  return [`SQLSTATE ${code}`, routine && `in ${routine}`, constraint && `on ${constraint}`]
    .filter(Boolean)
    .join(' ')
}

/** A script is this program's own text, so the whole message may be told. */
function sayAll({ code, message }: postgres.PostgresError): string {
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
  return error instanceof Error && translate(error, sayPlace) instanceof DatabaseUnavailable
}

/** What is told about an error while signing in, and its code. */
function causeOf(error: unknown): { message: string; code: string | undefined } {
  const cause = translate(error, sayPlace)
  const { message } = cause
  if (cause instanceof StatementFailed) return { message, code: cause.sqlState }
  return { message, code: cause instanceof DatabaseUnavailable ? cause.code : undefined }
}

function translate(error: unknown, describe: Describe): Error {
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
