import { escapes, type DatabaseAddress } from './address.ts'
import type { DatabaseUnavailable } from './failures.ts'
import { noTls } from './socket.ts'

/** The database that DATABASE_URL names cannot be used. The message is for whoever set it. */
export class DatabaseUnusable extends Error {
  override readonly name = 'DatabaseUnusable'

  constructor(problem: string) {
    super(`DATABASE_URL: ${problem}`)
  }
}

/** What to do if waiting does not help, by SQLSTATE (PostgreSQL, appendix A) or the code of TLS. */
const remedies: Record<string, string> = {
  '28P01': `Copy the connection string again; ${escapes}`,
  '28000': 'Check its user and sslmode, and whether pg_hba.conf lets that user in from here',
  '3D000': 'Create the database, or correct its name: it stands after the last /',
  '42704': 'Take that parameter out of its options',
  '22023': 'Correct that parameter in its options',
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

/** While signing in, the missing right is the one to connect. */
const noRight = '42501'

/** PgBouncer has one SQLSTATE, 08P01, for everything it refuses; these are its words, or the server's. */
const saidByPooler: [RegExp, string][] = [
  [/authentication failed|no such user/i, '28P01'],
  [/SSL required|not permitted to log in|no pg_hba.conf entry/i, '28000'],
  [/no such database|database ".*" does not exist/i, '3D000'],
  [/permission denied for database/i, noRight],
]

/** Limits that cut statements off, by SQLSTATE. */
const limits: Record<string, string> = {
  '57014': 'Is statement_timeout too short, for this role or this database?',
  '55P03':
    'Another session holds a lock on the tables: pg_locks says which, and pg_stat_activity what it does.',
}

/** What may change while a server waits, and what to check if it does not. */
const questions: Record<string, string> = {
  ...limits,
  ENOTFOUND: 'Is the name of its host right?',
  ECONNREFUSED: 'Is PostgreSQL running there, and is the port right?',
  '53300': 'All of its connections are taken: are there too many servers, or is max too high?',
  '25006':
    'It takes no writes: is it a standby, or is default_transaction_read_only set for this role or this database?',
}

/** Why asking again will not help, and what will. Nothing if it may help. */
export function explainRefusal(
  { message, code = '' }: DatabaseUnavailable,
  { username, database }: Pick<DatabaseAddress, 'username' | 'database'>,
): DatabaseUnusable | undefined {
  if (code === noTls)
    return new DatabaseUnusable(
      'the server does not encrypt connections, and sslmode asks for it. Turn TLS on there, or on a network that you trust set sslmode=disable.',
    )
  const known = saidByPooler.find(([words]) => code === '08P01' && words.test(message))?.[1] ?? code
  const remedy =
    known === noRight
      ? `The role ${username} lacks the right to connect. Let the owner of the database run: grant connect on database ${identifier(database)} to ${identifier(username)}`
      : remedies[known]
  return remedy === undefined ? undefined : new DatabaseUnusable(`${message}. ${remedy}.`)
}

function identifier(name: string): string {
  return /^[a-z_][a-z\d_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
}

/** What to say while waiting: somebody's limit may be in the way. */
export function explainWait({ message, code = '' }: DatabaseUnavailable): string {
  const limit = limits[code]
  return limit === undefined ? message : `${message}. ${limit}`
}

/** What to say when waiting did not help. */
export function explainSilence(
  { message, code = '' }: DatabaseUnavailable,
  seconds: number,
): DatabaseUnusable {
  const question =
    questions[code] ??
    'Is it up, is there a firewall or a list of allowed addresses in front of it, or does another session hold a lock on the tables?'
  const problem =
    code in limits ? 'the tables could not be made ready' : `no database answered for ${seconds} s`
  return new DatabaseUnusable(`${problem}: ${message}. ${question}`)
}
