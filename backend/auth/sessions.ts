import { createHmac, timingSafeEqual } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { createLine } from '../db/line.ts'
import { StatementFailed } from '../db/failures.ts'
import type { Database } from '../db/pool.ts'
import { Fragment } from '../db/sql.ts'
import { AuthUnavailable, isUserId, TokenError, type Bearer, type VerifyToken } from './tokens.ts'

/** Better Auth's table of sessions, and its columns, as its adapter names them. */
export type SessionTable = {
  schema?: string
  table: string
  token: string
  expires: string
  user: string
}

/** The table is not there, or may not be read. */
export class SessionsMissing extends Error {
  override readonly name = 'SessionsMissing'
}

/** Better Auth's own: 32 letters and digits. Longer than a password that somebody would guess. */
const opaqueToken = /^([A-Za-z0-9_-]{20,128})(?:\.([A-Za-z0-9+/_=%-]{20,200}))?$/

const lookAgainAfter = 30_000 // ms; with the time between two looks at streams, within a minute
const rememberedSessions = 10_000
const together = { width: 1, most: 64, longest: 500 }

type Remembered = { userId: string; expires: number; seenAt: number }
type Row = { token: string; user_id: string; expires: string }

/** What it takes to look sessions up. */
type SessionsIn = Pick<Database, 'queryWithin' | 'fragment' | 'deadline'>

/**
 * Makes the verifier of Better Auth's session tokens, and of its signed cookies' `token.signature`.
 * They are looked up in the table that Better Auth writes them to; tokens that wait at the same moment
 * share a statement. A token that was found is trusted for half a minute; one that was not is looked up
 * each time. Tokens that were good before wait in a line of their own, which a flood of made-up ones
 * cannot lengthen.
 *
 * @param secret Better Auth's, for signatures; without it signed ones are refused
 * @param now the time in milliseconds since 1970
 */
function createSessionVerifier(
  database: SessionsIn,
  names: SessionTable,
  secret: string | undefined,
  now: () => number = Date.now,
): VerifyToken {
  const remembered = new LRUCache<string, Remembered>({ max: rememberedSessions })
  const underWay = new Map<string, Promise<Remembered>>()
  const sql = sqlNames(names)
  const find = orUnavailable(createFind(database, names))
  const { deadline } = database
  const findKnown = createLine({ send: find, deadline, ...together })
  const findUnknown = createLine({ send: find, deadline, ...together })

  async function lookUp(token: string): Promise<Remembered> {
    const known = remembered.get(token)
    const row = known ? await findKnown(known.userId, token) : await findUnknown(token, token)
    remembered.delete(token) // and put back once it has proved good
    if (row === undefined)
      throw new TokenError('invalid', `no session in ${sql.table.sql} has this token`)
    const { user_id: userId } = row
    const expires = Number(row.expires)
    if (!isUserId(userId))
      throw new TokenError(
        'invalid',
        'the session is of a user whose id is not text of usual length',
      )
    const session = { userId, expires, seenAt: now() }
    remembered.set(token, session)
    return session
  }

  /** A page that loads asks for several things at once. */
  async function lookUpOnce(token: string): Promise<Remembered> {
    let session = underWay.get(token)
    if (session === undefined) {
      session = lookUp(token).finally(() => underWay.delete(token))
      underWay.set(token, session)
    }
    return session
  }

  return async function verifySession(given): Promise<Bearer> {
    const token = tokenOf(given, secret)
    const known = remembered.get(token)
    // One that seems to have expired may have been prolonged.
    const isFresh =
      known !== undefined && now() - known.seenAt < lookAgainAfter && now() / 1000 < known.expires
    const { userId, expires } = isFresh ? known : await lookUpOnce(token)
    if (now() / 1000 >= expires) {
      remembered.delete(token)
      throw new TokenError('expired', 'expired')
    }
    return { userId, expires, recheck: async () => verifySession(given) }
  }
}

type Find = (tokens: readonly string[], left: number) => Promise<(Row | undefined)[]>

/** Better Auth's own migrations may take the table away for a while: nobody's session has ended by that. */
function orUnavailable(find: Find): Find {
  return async function findIfPossible(tokens, left) {
    try {
      return await find(tokens, left)
    } catch (error) {
      if (error instanceof StatementFailed) throw new AuthUnavailable(error.message)
      throw error
    }
  }
}

/** @returns what finds the sessions with these tokens, in the same order */
function createFind({ queryWithin, fragment }: SessionsIn, names: SessionTable): Find {
  const sql = sqlNames(names)
  const statement = fragment`
    select
      ${sql.token} as token, ${sql.user}::text as user_id,
      extract(epoch from ${sql.expires})::numeric::text as expires
    from ${sql.table}
    where ${sql.token} = any (array(select json_array_elements_text(${''}::text::json)))`

  return async function find(tokens, left) {
    const given = statement.with([JSON.stringify(tokens)])
    const rows = await queryWithin(left, tokens.length)<Row>`${given}`
    const found = new Map(rows.map((row) => [row.token, row]))
    return tokens.map((token) => found.get(token))
  }
}

/**
 * Lets session tokens in besides those that `verifyJwt` verifies, if the settings say so. The two
 * cannot be taken for each other: a JWT has two dots in it.
 */
export function withSessions(
  verifyJwt: VerifyToken,
  database: SessionsIn,
  { sessions, secret }: { sessions?: SessionTable; secret?: string },
  now?: () => number,
): VerifyToken {
  if (sessions === undefined) return verifyJwt
  const verifySession = createSessionVerifier(database, sessions, secret, now)
  return async function verifyEither(token, resource) {
    return opaqueToken.test(token) ? verifySession(token) : verifyJwt(token, resource)
  }
}

/**
 * Looks once whether sessions can be read, so that a wrong name is told at start and not to users.
 *
 * @throws SessionsMissing, DatabaseUnavailable
 */
export async function checkSessions(database: SessionsIn, names: SessionTable): Promise<void> {
  try {
    await createFind(database, names)([], database.deadline)
  } catch (error) {
    const { table, token, expires, user } = sqlNames(names)
    if (!(error instanceof StatementFailed)) throw error
    throw new SessionsMissing(
      `BETTER_AUTH_SESSIONS=database: the table ${table.sql} with the columns ${token.sql}, ${expires.sql} and ${user.sql} cannot be read in the database of DATABASE_URL (SQLSTATE ${error.sqlState}). Run Better Auth's migration there first; if its names are others, set BETTER_AUTH_SESSION_TABLE and BETTER_AUTH_SESSION_COLUMNS`,
    )
  }
}

/** @throws TokenError if it is none, or its signature is not ours */
function tokenOf(given: string, secret: string | undefined): string {
  const [, token, signature] = opaqueToken.exec(given) ?? []
  if (token === undefined) throw new TokenError('invalid', 'not a session token')
  if (signature === undefined) return token
  if (secret === undefined)
    throw new TokenError('invalid', 'signed session token, but BETTER_AUTH_SECRET is not set')
  if (!isSignedBy(secret, token, signature))
    throw new TokenError(
      'invalid',
      'the signature of the session token does not match BETTER_AUTH_SECRET',
    )
  return token
}

/** A cookie has it in base64, percent-encoded; Better Auth's `bearer()` plugin in base64url. */
function isSignedBy(secret: string, token: string, signature: string): boolean {
  const expected = createHmac('sha256', secret).update(token).digest()
  const given = Buffer.from(
    signature.replaceAll(/%(2B|2F|3D)/gi, (code) =>
      String.fromCharCode(Number(`0x${code.slice(1)}`)),
    ),
    'base64',
  )
  return given.length === expected.length && timingSafeEqual(given, expected)
}

/** The settings take letters, digits and `_` only: nothing in a name could end it. */
function sqlNames({ schema, table, token, expires, user }: SessionTable) {
  return {
    table: quoted(...(schema === undefined ? [] : [schema]), table),
    token: quoted(token),
    expires: quoted(expires),
    user: quoted(user),
  }
}

function quoted(...names: string[]): Fragment {
  return new Fragment([names.map((name) => `"${name}"`).join('.')], [])
}
