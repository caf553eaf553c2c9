import postgres from 'postgres'
import { LineLost, openSocket, type Endpoint } from './socket.ts'

const saysGoodbyeWithin = 1_000 // ms

/** How long a server may take to stop a statement that it was asked to stop, in milliseconds. */
export const cancelledWithin = 1_000

/**
 * How long a request to cancel may stay open, in milliseconds. PgBouncer drops one whose client has gone, and
 * may die of it once a frozen PostgreSQL answers again (pgbouncer/pgbouncer#801). Its own limits,
 * `cancel_wait_timeout` and `server_connect_timeout`, are 10 and 15 s.
 */
const cancelEndsWithin = 30_000

const bool = 16
const int8 = 20

export type Connection = ReturnType<typeof openConnection>

export type ConnectionOptions = {
  /** How long signing in may take, in milliseconds. */
  within: number
  /** Called with each notification on the channels that the connection listens to. */
  onPayload?: (payload: string) => void
}

/**
 * One connection, from signing in to its end. It never reconnects. The driver would: at once, even if
 * signing in was refused, and it may take what it hears then for the end of a statement that it sent on
 * the previous line.
 */
export function openConnection(
  endpoint: Endpoint,
  { within, onPayload = () => {} }: ConnectionOptions,
) {
  const ending = new AbortController()
  const { promise: lost, reject: lose } = Promise.withResolvers<never>()
  lost.catch(() => {}) // nobody may be waiting for it
  let isTried = false

  /** Ends it at once, in whatever state it is. */
  function drop(why = 'The connection was lost'): void {
    if (ending.signal.aborted) return
    ending.abort()
    lose(new LineLost(why))
  }

  const notInItsTypes = {
    onnotify: (_channel: string, payload: string) => onPayload(payload),
    async socket() {
      if (isTried) throw new LineLost('The connection was closed while signing in')
      isTried = true
      return openSocket(endpoint, ending.signal)
    },
  }
  const sql = postgres({ ...driverSettings(endpoint), ...notInItsTypes, onclose: () => drop() })
  let backend: { pid: number; secret: number } | undefined

  async function signIn(): Promise<void> {
    const timer = setTimeout(() => drop(`No answer within ${within} ms`), within)
    try {
      // The driver connects only for a statement, and losing this one does no harm.
      const { state } = await Promise.race([sql.unsafe('select'), lost])
      backend = state
    } catch (error) {
      drop()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
  const opened = signIn()
  opened.catch(() => {}) // nobody asks if it is closed first

  return {
    /** @throws what the network, TLS or PostgreSQL objects to */
    opened,
    /** Ends with the connection, by an error. */
    lost,
    /** Runs one statement at a time. */
    sql,
    drop,
    /**
     * Asks the server to stop the statement that runs (PostgreSQL, "Canceling Requests in Progress").
     * The request may arrive late and stop the next one, so there must be none on this connection. If the
     * server cannot be asked, the statement does not end.
     */
    cancel: () => void sendCancel(endpoint, backend).catch(() => {}),
    /** Waits until it is signed in, so that no half-made session stays on the server, and ends it. */
    async close(): Promise<void> {
      await opened.catch(() => {})
      await sql.end({ timeout: saysGoodbyeWithin / 1000 })
      drop()
    },
  }
}

async function sendCancel(
  endpoint: Endpoint,
  backend: { pid: number; secret: number } | undefined,
): Promise<void> {
  if (!backend?.pid) return
  const message = Buffer.alloc(16)
  message.writeInt32BE(message.length)
  message.writeInt32BE(80_877_102, 4) // CancelRequest
  message.writeUInt32BE(backend.pid, 8)
  message.writeUInt32BE(backend.secret, 12)
  const socket = await openSocket(endpoint, AbortSignal.timeout(cancelEndsWithin))
  socket.write(message)
  // The server ends it, which only a socket that is read notices.
  socket.resume()
}

function driverSettings(endpoint: Endpoint) {
  return {
    ...endpointForDriver(endpoint),
    max: 1,
    connect_timeout: 0,
    idle_timeout: 0,
    max_lifetime: null,
    // Array types would be looked up with a query of its own on every new connection.
    fetch_types: false,
    onnotice: () => {},
    types: {
      // Ids and counts stay below 2^53, and so are exact as numbers.
      bigint: { to: int8, from: [int8], serialize: String, parse: Number },
      // If PostgreSQL has forgotten a prepared statement, postgres.js sends it again with values that it has
      // already turned into text, and its own serializer turns every text into `false`.
      boolean: {
        to: bool,
        from: [bool],
        serialize: (value: unknown) => (value === true || value === 't' ? 't' : 'f'),
        parse: (text: string) => text === 't',
      },
    },
  }
}

function endpointForDriver(endpoint: Endpoint) {
  if ('socket' in endpoint)
    return { path: endpoint.socket, username: 'postgres', database: 'postgres' }
  return {
    host: endpoint.host,
    port: endpoint.port,
    database: endpoint.database,
    username: endpoint.username,
    password: endpoint.password,
    prepare: endpoint.prepare,
    connection: endpoint.startup,
  }
}
