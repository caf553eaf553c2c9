import { connect as connectSocket, isIP, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'
import type { DatabaseAddress } from './address.ts'

/** How a database is reached: over the network, or by a socket on this machine. */
export type Endpoint = DatabaseAddress | { socket: string }

/** PostgreSQL, "Message Formats": SSLRequest, to which a server says `S` or `N`. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

/** The code if no connection is made because it must be encrypted and the server cannot. */
export const noTls = 'NO_TLS'

/** A connection to the database broke or was never made. */
export class LineLost extends Error {
  override readonly name = 'LineLost'
  readonly code: string | undefined

  constructor(message: string, code?: string) {
    super(message)
    this.code = code
  }
}

/**
 * Connects to PostgreSQL, encrypted as the address says. The driver can do that too, but it has no way to
 * end a connection while TLS is being set up: the server would keep a session that nobody uses.
 *
 * @param ending ends the line, whatever state it is in
 * @throws LineLost, or what the network or TLS says
 */
export async function openSocket(endpoint: Endpoint, ending: AbortSignal): Promise<Socket> {
  if (ending.aborted) throw new LineLost('The connection was ended')
  const line =
    'socket' in endpoint
      ? connectSocket(endpoint.socket)
      : connectSocket(endpoint.port, endpoint.host)
  line.on('error', ignore)
  ending.addEventListener('abort', () => line.destroy())
  try {
    await next(line, 'connect')
    if ('socket' in endpoint || endpoint.tls === false) return line
    line.write(sslRequest)
    const answer = String(await next(line, 'data'))
    if (answer === 'S') return await encrypt(line, tlsOptions(endpoint), ending)
    if (answer === 'N' && endpoint.tls === 'prefer') return line
    if (answer === 'N')
      throw new LineLost('The server does not encrypt, and sslmode asks for it', noTls)
    // Anything after that letter would be from somebody who wrote into the connection before it was
    // encrypted (CVE-2021-23222).
    throw new LineLost('The server does not say whether it encrypts')
  } catch (error) {
    line.destroy()
    throw error
  }
}

function tlsOptions({ host, tls }: DatabaseAddress): ConnectionOptions {
  if (typeof tls === 'object') return tls
  return { rejectUnauthorized: false, ...(isIP(host) === 0 && { servername: host }) }
}

async function encrypt(
  line: Socket,
  options: ConnectionOptions,
  ending: AbortSignal,
): Promise<Socket> {
  const encrypted = connectTls({ ...options, socket: line })
  encrypted.on('error', ignore)
  ending.addEventListener('abort', () => encrypted.destroy())
  await next(encrypted, 'secureConnect')
  return encrypted
}

/** An error without a listener would end the process. The close that follows it is enough to know. */
function ignore(): void {}

/** @throws what ended the socket before that event */
async function next(socket: Socket, event: string): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  const onClose = () => reject(new LineLost('The line was closed while it was made'))
  socket.once(event, resolve).once('error', reject).once('close', onClose)
  try {
    return await promise
  } finally {
    socket.off(event, resolve).off('error', reject).off('close', onClose)
  }
}
