import postgres from 'postgres'
import { LineLost, openSocket, type Place } from './socket.ts'

const saysGoodbyeWithin = 1_000 // ms

/** In which a server that is asked to stop a statement does so, in milliseconds. */
export const cancelledWithin = 1_000

const bool = 16
const int8 = 20

export type Connection = ReturnType<typeof openConnection>

export type ConnectionOptions = {
  /** How long signing in may take, in milliseconds. */
  within: number
  /** Is given what others notify, on the channels that the connection listens to. */
  onPayload?: (payload: string) => void
}

/**
 * One connection, from signing in to its end. It is never made again: the driver does that by itself,
 * at once where signing in was refused, and may take what it then hears for the end of a statement
 * that it wrote on the line before.
 */
export function openConnection(place: Place, { within, onPayload = () => {} }: ConnectionOptions) {
  const ending = new AbortController()
  const { promise: lost, reject: lose } = Promise.withResolvers<never>()
  lost.catch(() => {}) // there may be nobody who waits for it
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
      return openSocket(place, ending.signal)
    },
  }
  const sql = postgres({ ...driverSettings(place), ...notInItsTypes, onclose: () => drop() })
  let backend: { pid: number; secret: number } | undefined

  async function signIn(): Promise<void> {
    const timer = setTimeout(() => drop(`No answer within ${within} ms`), within)
    try {
      // The driver connects for a statement only, and this one may be lost.
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
  opened.catch(() => {}) // whoever closes it before does not ask

  return {
    /** @throws what the network, TLS or PostgreSQL says against it */
    opened,
    /** Ends with the connection, by an error. */
    lost,
    /** Runs one statement at a time. */
    sql,
    drop,
    /**
     * Asks the server to stop the statement that runs (PostgreSQL, "Canceling Requests in Progress").
     * It may come late, and stop the next one: there must be none on this connection. That the server
     * cannot be asked shows in the statement, which does not end.
     */
    cancel: () => void sendCancel(place, backend).catch(() => {}),
    /** Waits until it is signed in, so that the server keeps no half of a session, and ends it. */
    async close(): Promise<void> {
      await opened.catch(() => {})
      await sql.end({ timeout: saysGoodbyeWithin / 1000 })
      drop()
    },
  }
}

async function sendCancel(
  place: Place,
  backend: { pid: number; secret: number } | undefined,
): Promise<void> {
  if (!backend?.pid) return
  const message = Buffer.alloc(16)
  message.writeInt32BE(message.length)
  message.writeInt32BE(80_877_102, 4) // CancelRequest
  message.writeUInt32BE(backend.pid, 8)
  message.writeUInt32BE(backend.secret, 12)
  const socket = await openSocket(place, AbortSignal.timeout(cancelledWithin))
  // Not ended here: PgBouncer forgets a request whose client has gone.
  socket.write(message)
}

function driverSettings(place: Place) {
  return {
    ...placeForDriver(place),
    max: 1,
    connect_timeout: 0,
    idle_timeout: 0,
    max_lifetime: null,
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
  }
}

function placeForDriver(place: Place) {
  if ('socket' in place) return { path: place.socket, username: 'postgres', database: 'postgres' }
  return {
    host: place.host,
    port: place.port,
    database: place.database,
    username: place.username,
    password: place.password,
    prepare: place.prepare,
    connection: place.startup,
  }
}
