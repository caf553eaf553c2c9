import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { checkServerIdentity, type ConnectionOptions } from 'node:tls'

/** What a connection URL says: where a PostgreSQL server is and how to speak to it. */
export type DatabaseAddress = {
  host: string
  port: number
  database: string
  username: string
  password: string
  /** `prefer`: encrypted if the server can, as libpq does when a URL says nothing. */
  tls: false | 'prefer' | ConnectionOptions
  /** Named prepared statements. Poolers older than PgBouncer 1.21 need `?prepare=false`. */
  prepare: boolean
  /** The most connections that one process opens. */
  maxConnections: number
  /** Sent when a connection starts. */
  startup: { application_name: string; options?: string }
}

/** How to write a password that is not suited to a URL. */
export const escapes =
  'in a user name or password, write @ as %40, # as %23, / as %2F, ? as %3F and % as %25, and in a file .env also $ as %24'
const defaultMaxConnections = 10
const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const

/**
 * Reads a PostgreSQL connection URL as Neon's console and libpq write it.
 *
 * postgres.js would send every parameter it does not know to the server, which refuses them
 * (`42704 unrecognized configuration parameter "channel_binding"`), and reads `?max=5` as text.
 * So the URL is taken apart here, and parameters that mean nothing to this server are left out.
 *
 * `sslmode` is libpq's: `require` encrypts without looking at the certificate; `verify-ca` and
 * `verify-full` verify it against the system's authorities or the file that `sslrootcert` names.
 * postgres.js cannot do channel binding. Its purpose, that nobody stands in the middle, is served by
 * verifying the certificate instead: `channel_binding=require` turns `require` into `verify-full`.
 *
 * @throws Error with a message that continues the name of the setting and repeats nothing of the URL
 */
export function parseDatabaseUrl(text: string): DatabaseAddress {
  const url = URL.parse(text)
  if (url !== null && isCutShort(url))
    throw new Error(`has a raw @ or # after its host; ${escapes}`)
  if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol) || url.hostname === '')
    throw new Error(
      `must be a connection string such as postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=require; ${escapes}`,
    )
  const parameter = (name: string) => url.searchParams.get(name) ?? undefined
  const address = {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 5432 : Number(url.port),
    username: decode(url.username),
    password: decode(url.password),
  }
  if (address.username === '') throw new Error('names no user')
  const options = parameter('options')
  return {
    ...address,
    database: decode(url.pathname.slice(1)) || address.username,
    tls: tlsFor(
      address.host,
      parameter('sslmode'),
      parameter('sslrootcert'),
      parameter('channel_binding') === 'require',
    ),
    prepare: parsePrepare(parameter('prepare')),
    maxConnections: parseMaxConnections(parameter('max')),
    startup: {
      application_name: parameter('application_name') ?? 'todo-api',
      ...(options !== undefined && { options }),
    },
  }
}

/**
 * Whether a character of the password has cut the host short (RFC 3986, 3.2): then part of the password
 * is taken for the host. A connection string has no fragment, and an `@` in a parameter comes after the
 * name of a database.
 */
function isCutShort({ hash, pathname, search }: URL): boolean {
  return hash !== '' || (pathname.length > 1 ? pathname : search).includes('@')
}

/** Whether the host is Neon's pooler, by its name. */
export function isPooler({ host }: DatabaseAddress): boolean {
  return /-pooler(\.|$)/.test(host)
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error('has a % that is not part of an escape; write it as %25')
  }
}

function tlsFor(
  host: string,
  sslMode: string | undefined,
  rootCertificate: string | undefined,
  channelBinding: boolean,
): DatabaseAddress['tls'] {
  const asked = sslModes.find((mode) => mode === (sslMode ?? 'prefer'))
  if (asked === undefined) throw new Error(`has an sslmode that is none of ${sslModes.join(', ')}`)
  const mode = channelBinding ? 'verify-full' : asked
  const ca = readAuthorities(rootCertificate)
  // TLS can send a name but no IP address (RFC 6066). The certificate is checked against the host of the
  // URL, because the TLS library does not know the host of a socket that is already connected.
  const servername = isIP(host) ? {} : { servername: host }
  switch (mode) {
    case 'disable':
      return false
    case 'allow':
    case 'prefer':
      return 'prefer'
    case 'require':
      return { ...servername, rejectUnauthorized: false }
    case 'verify-ca':
      return {
        ...servername,
        ...ca,
        rejectUnauthorized: true,
        checkServerIdentity: () => undefined,
      }
    case 'verify-full':
      return {
        ...servername,
        ...ca,
        rejectUnauthorized: true,
        checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
      }
  }
}

function readAuthorities(file: string | undefined): { ca?: string } {
  if (file === undefined || file === 'system') return {}
  try {
    return { ca: readFileSync(file, 'utf8') }
  } catch {
    throw new Error('has an sslrootcert that is not a readable file')
  }
}

function parsePrepare(text: string | undefined): boolean {
  if (text === undefined || text === 'true') return true
  if (text === 'false') return false
  throw new Error('has a prepare that is neither true nor false')
}

function parseMaxConnections(text: string | undefined): number {
  if (text === undefined) return defaultMaxConnections
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1 || count > 1000)
    throw new Error('has a max that is not a whole number from 1 to 1000')
  return count
}
