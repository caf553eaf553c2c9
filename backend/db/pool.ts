import postgres from 'postgres'
import type { DatabaseAddress } from './address.ts'
import { createTurns } from './turns.ts'

/** Runs one SQL statement with its parameters bound, and gives its rows. */
export type Query = <Row extends object>(
  strings: TemplateStringsArray,
  ...parameters: Parameter[]
) => Promise<Row[]>

/**
 * A piece of SQL with the values of its placeholders. The driver's own are not used: each of them is
 * a promise, which runs where it is awaited or returned by mistake, and putting a statement together
 * out of them cost more than all else that a write asks of this process.
 */
export class Fragment {
  /** What stands around the values: one more than those. */
  readonly texts: readonly string[]
  readonly values: readonly postgres.SerializableParameter[]

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

  /** The statement, with `$1` and so on in the places of the values. */
  get sql(): string {
    return this.texts.reduce((sql, text, index) => `${sql}$${index}${text}`)
  }
}

/** A value for a placeholder, or a piece of SQL. */
export type Parameter = postgres.SerializableParameter | Fragment

export type Database = {
  /**
   * For what no user asked for. Past the deadline the statement is cancelled and the caller gets
   * `DatabaseUnavailable`.
   *
   * @throws DatabaseUnavailable where asking again may help, StatementFailed where it will not
   */
  query: Query
  /**
   * For what a user asked for. Where the connections are in use, users take turns; the deadline is the
   * same and counts the wait.
   *
   * @throws QueueFull, WaitedTooLong, and what `query` throws
   */
  queryFor: (user: string) => Query
  fragment: (strings: TemplateStringsArray, ...parameters: Parameter[]) => Fragment
  /**
   * Runs a script of several statements as the one transaction that PostgreSQL makes of a simple
   * query. It is one message, so that it works through a transaction pooler and cannot be applied
   * by half when the connection is lost.
   */
  script: (sql: string, deadline: number) => Promise<void>
  /** Waits for running statements, at most as long as the deadline for one, and disconnects. */
  close: () => Promise<void>
}

/** The database cannot be reached, or not in time, or it is going down. */
export class DatabaseUnavailable extends Error {
  override readonly name = 'DatabaseUnavailable'
}

/** PostgreSQL refused a statement. Says where and why, and nothing of the values in it. */
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
  deadline: number
}

export const defaultDeadline = 5_000
const longestQueue = 500 // statements of one user
const cancelledWithin = 1_000 // ms
const longestWaitBetweenAttempts = 1 // s; postgres.js's own backoff made requests wait 11.8 s
const idleSeconds = 60

/**
 * One statement at a time on a connection, the others wait in this process. By default postgres.js
 * sends more behind the one that runs: those then happen after their callers were told that they
 * did not, and when the server goes away they leave connections that never work again (porsager/postgres#1208).
 */
const oneAtATime = { max_pipeline: 0 }
const lifetimeSeconds = 30 * 60

const bool = 16
const int8 = 20

/** Opens a pool of connections. None is made before the first statement. */
export function connect(
  address: DatabaseAddress | { socket: string },
  { deadline }: ConnectOptions = { deadline: defaultDeadline },
): Database {
  const openPool = () =>
    postgres({
      ...placeOf(address),
      ...oneAtATime,
      connect_timeout: deadline / 1000,
      idle_timeout: idleSeconds,
      max_lifetime: lifetimeSeconds,
      backoff: (attempt: number) => Math.min(0.05 * 2 ** attempt, longestWaitBetweenAttempts),
      // Array types would be looked up with a query of its own on every new connection.
      fetch_types: false,
      onnotice: () => {},
      types: {
        // Ids and counts stay below 2^53, where a number is exact.
        bigint: { to: int8, from: [int8], serialize: String, parse: Number },
        // Where PostgreSQL has forgotten a prepared statement, postgres.js sends it again with values
        // that it has already made into text, and its own serializer makes `false` of every text.
        boolean: {
          to: bool,
          from: [bool],
          serialize: (value: unknown) => (value === true || value === 't' ? 't' : 'f'),
          parse: (text: string) => text === 't',
        },
      },
    })
  let pool = openPool()

  /**
   * A line can go dead without a word. The driver waits on it for ever, and has no way to drop one
   * connection: so all of them are given up, those that still work once their statements have ended.
   */
  function replace(deaf: typeof pool): void {
    if (pool !== deaf) return
    pool = openPool()
    void deaf.end({ timeout: deadline / 1000 })
  }

  async function run<Row extends object>(
    { sql, values }: Fragment,
    milliseconds: number,
  ): Promise<Row[]> {
    const used = pool
    const rows = await within(used.unsafe<Row[]>(sql, [...values], { prepare: true }), {
      milliseconds,
      describe: sayPlace,
      onSilence: () => replace(used),
    })
    expectEnd(rows)
    // After a connection was lost amid a result, postgres.js begins the next one with as many
    // holes as it had rows.
    return rows.filter(Boolean)
  }

  const places = pool.options.max
  const perUser = Math.max(Math.floor(places / 2), 1)
  const turns = createTurns({ places, perUser, longestQueue, deadline })

  return {
    query: async (strings, ...parameters) => run(new Fragment(strings, parameters), deadline),
    queryFor: (user) =>
      async function query<Row extends object>(
        strings: TemplateStringsArray,
        ...parameters: Parameter[]
      ) {
        const statement = new Fragment(strings, parameters)
        return turns.run(user, async (left) => run<Row>(statement, left))
      },
    fragment: (strings, ...parameters) => new Fragment(strings, parameters),
    async script(text, milliseconds) {
      const used = pool
      const results: unknown = await within(used.unsafe(text).simple(), {
        milliseconds,
        describe: sayAll,
        onSilence: () => replace(used),
      })
      expectEnd(results)
    },
    async close() {
      await pool.end({ timeout: deadline / 1000 })
    },
  }
}

/**
 * Waits for a statement until its deadline, and then cancels it.
 *
 * @param onSilence is called where the server does not say a word to that either
 */
async function within<Result>(
  running: Promise<Result> & { cancel: () => unknown },
  {
    milliseconds,
    describe,
    onSilence,
  }: { milliseconds: number; describe: Describe; onSilence: () => void },
): Promise<Result> {
  return new Promise((resolve, reject) => {
    let silence: ReturnType<typeof setTimeout> | undefined
    const timer = setTimeout(() => {
      reject(new DatabaseUnavailable(`No answer within ${milliseconds} ms`))
      silence = setTimeout(onSilence, cancelledWithin)
      cancel(running)
    }, milliseconds)
    function clear(): void {
      clearTimeout(timer)
      clearTimeout(silence)
    }
    function succeed(result: Result): void {
      clear()
      resolve(result)
    }
    function fail(error: unknown): void {
      clear()
      reject(translate(error, describe))
    }
    running.then(succeed, fail)
  })
}

function placeOf(address: DatabaseAddress | { socket: string }) {
  if (!('socket' in address)) return settingsOf(address)
  return {
    path: address.socket,
    username: 'postgres',
    database: 'postgres',
    // One session serves all connections of the embedded database.
    max: 1,
  }
}

/** An address as the driver takes it. */
export function settingsOf(address: DatabaseAddress) {
  return {
    host: address.host,
    port: address.port,
    database: address.database,
    username: address.username,
    password: address.password,
    ssl: address.tls,
    prepare: address.prepare,
    max: address.maxConnections,
    connection: address.startup,
  }
}

/**
 * The driver can send a statement over a line that has just broken. Once the connection is made again
 * it takes the end of signing in for the statement's, and gives no rows. A result that PostgreSQL has
 * finished names its command; of a script there is an array of them.
 */
function expectEnd(result: unknown): void {
  const results: unknown[] = Array.isArray(result) && !('command' in result) ? result : [result]
  if (!results.every(namesCommand))
    throw new DatabaseUnavailable('The connection was lost under the statement')
}

function namesCommand(result: unknown): boolean {
  return Array.isArray(result) && 'command' in result && typeof result.command === 'string'
}

/** Takes a statement out of the queue, or asks the server to stop it: it must not happen later. */
function cancel(running: Promise<unknown> & { cancel: () => unknown }): void {
  // What postgres.js returns here is a promise that its types do not mention; where the server is
  // gone it rejects.
  void Promise.resolve(running.cancel()).catch(() => {})
}

/**
 * SQLSTATEs after which the same request may succeed later (PostgreSQL, appendix A): the connection
 * (08), the credentials (28, while they are being changed), the database (3D), a serialization
 * failure or deadlock (40), resources (53), the server stopping (57P, 58), a statement cancelled
 * (57014), a lock (55P03), and a server that only reads, which a failover leaves behind (25006).
 */
const passing = /^(08...|28...|3D...|40...|53...|57P..|57014|58...|55P03|25006)$/

const sqlStateShape = /^[0-9A-Z]{5}$/

type Describe = (error: postgres.PostgresError) => string

/** PostgreSQL's own message may repeat a user's text, so of a query only the place is told. */
function sayPlace({ code, routine, constraint_name: constraint }: postgres.PostgresError): string {
  return [`SQLSTATE ${code}`, routine && `in ${routine}`, constraint && `on ${constraint}`]
    .filter(Boolean)
    .join(' ')
}

/** A script is this program's own text: its message may be told whole. */
function sayAll({ code, message }: postgres.PostgresError): string {
  return `${message} (SQLSTATE ${code})`
}

/** Whether an error of the driver's says that the database cannot be reached. */
export function isUnavailable(error: unknown): error is Error {
  return error instanceof Error && translate(error, sayPlace) instanceof DatabaseUnavailable
}

function translate(error: unknown, describe: Describe): Error {
  if (error instanceof DatabaseUnavailable) return error
  if (!(error instanceof Error)) return new DatabaseUnavailable(String(error))
  const code = 'code' in error ? String(error.code) : ''
  if (error instanceof postgres.PostgresError) {
    const message = describe(error)
    return passing.test(code)
      ? new DatabaseUnavailable(message)
      : new StatementFailed(code, message, error.constraint_name)
  }
  // What the driver and the socket say of themselves: ECONNREFUSED, CONNECTION_CLOSED, a certificate
  // that does not verify. A TypeError and its like are faults of this program.
  if (code !== '' && !sqlStateShape.test(code) && !/^(UNSUPPORTED|UNDEFINED)_/.test(code))
    return new DatabaseUnavailable(`${code}: ${error.message}`)
  return error
}
