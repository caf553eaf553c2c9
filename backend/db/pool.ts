import postgres from 'postgres'
import { cancelledWithin } from './connection.ts'
import { createConnections, type Asking, type Connections } from './connections.ts'
import {
  causeOf,
  DatabaseUnavailable,
  failureOf,
  Locked,
  readsOnly,
  sayAll,
  sayPlace,
  type Describe,
} from './failures.ts'
import { noDatabaseMetrics, type DatabaseMetrics } from './metrics.ts'
import type { Lent } from './open-connections.ts'
import { createPrepared } from './prepared.ts'
import type { Endpoint } from './socket.ts'
import { Fragment, type Parameter, type Query } from './sql.ts'
import { createTurns } from './turns.ts'
import { WaitedTooLong } from './waiting.ts'

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
  endpoint: Endpoint,
  {
    deadline = defaultDeadline,
    metrics = noDatabaseMetrics,
    onReadsOnly = () => {},
  }: ConnectOptions = {},
): Database {
  // One session serves all connections of the embedded database.
  const most = 'socket' in endpoint ? 1 : endpoint.maxConnections
  const connections = createConnections(endpoint, { most, within: deadline })
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
      reject(failureOf(error, describe))
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
