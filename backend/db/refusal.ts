import { connect as connectSocket } from 'node:net'
import { escapes, type DatabaseAddress } from './address.ts'
import type { DatabaseUnavailable } from './pool.ts'

/** The database that DATABASE_URL names cannot be worked with. The message is for whoever set it. */
export class DatabaseUnusable extends Error {
  override readonly name = 'DatabaseUnusable'

  constructor(problem: string) {
    super(`DATABASE_URL: ${problem}`)
  }
}

/** What waiting does not change, by SQLSTATE (PostgreSQL, appendix A) or code of TLS, and what does. */
const remedies: Record<string, string> = {
  '28P01': `Copy the connection string anew; ${escapes}`,
  '28000': 'Check its user and sslmode, and whether pg_hba.conf lets that user in from here',
  '3D000': 'Create the database, or correct its name: it stands after the last /',
  ERR_TLS_CERT_ALTNAME_INVALID: 'Connect by a name that the certificate is for',
  CERT_HAS_EXPIRED: "Renew the server's certificate",
  CERT_NOT_YET_VALID: 'Compare the clocks of both machines',
}
const unknownAuthority =
  'Name the file of the authority that signed the certificate: sslrootcert=FILE. Or encrypt without verifying: sslmode=require without channel_binding'
for (const code of [
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
])
  remedies[code] = unknownAuthority

/** PgBouncer has one SQLSTATE, 08P01, for all that it refuses; these are its words, or the server's. */
const saidByPooler: [RegExp, string][] = [
  [/authentication failed|no such user/i, '28P01'],
  [/SSL required|not permitted to log in|no pg_hba.conf entry/i, '28000'],
  [/no such database|database ".*" does not exist/i, '3D000'],
]

/** What may be mended while a server waits, and what to look at if it is not. */
const questions: Record<string, string> = {
  ENOTFOUND: 'Is the name of its host right?',
  ECONNREFUSED: 'Is PostgreSQL running there, and is the port right?',
  '53300': 'Its connections are all taken: are there too many servers, or is max too high?',
  '57014': 'Is statement_timeout too short, for this role or this database?',
  '55P03': 'Is lock_timeout too short, for this role or this database?',
  '25006':
    'It takes no writes: is it a standby, or is default_transaction_read_only set for this role or this database?',
}

/** Why asking again will not help, as a sentence with what will; nothing if it may. */
export async function explainRefusal(
  { message, code = '' }: DatabaseUnavailable,
  address: DatabaseAddress,
): Promise<DatabaseUnusable | undefined> {
  const known = saidByPooler.find(([words]) => code === '08P01' && words.test(message))?.[1] ?? code
  const remedy = remedies[known]
  if (remedy !== undefined) return new DatabaseUnusable(`${message}. ${remedy}.`)
  const asksForTls = typeof address.tls === 'object'
  if (asksForTls && code === 'ECONNRESET' && (await speaksWithoutTls(address)))
    return new DatabaseUnusable(
      'the server does not encrypt connections, and sslmode asks for it. Turn TLS on there, or on a network that you trust set sslmode=disable.',
    )
  return undefined
}

/** What to say once waiting was in vain. */
export function explainSilence(
  { message, code = '' }: DatabaseUnavailable,
  seconds: number,
): DatabaseUnusable {
  const question =
    questions[code] ?? 'Is it up, and is there a firewall or a list of allowed addresses before it?'
  return new DatabaseUnusable(`no database answered for ${seconds} s: ${message}. ${question}`)
}

const answersWithin = 2_000 // ms
// An SSLRequest and its answer: PostgreSQL's documentation, 55.2.10.
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])
const no = 'N'.charCodeAt(0)

/**
 * Whether the server says no when it is asked for TLS. The driver takes any answer but yes for the
 * beginning of TLS, and then tells of a connection that was cut, as it is by a server that restarts.
 */
async function speaksWithoutTls({ host, port }: DatabaseAddress): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connectSocket(port, host, () => socket.write(sslRequest))
  socket.setTimeout(answersWithin, () => resolve(false))
  socket.once('data', (answer) => resolve(answer[0] === no))
  socket.once('error', () => resolve(false))
  socket.once('close', () => resolve(false))
  return promise.finally(() => socket.destroy())
}
