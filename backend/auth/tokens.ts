import { jwt } from '@elysiajs/jwt'
import {
  createRemoteJWKSet,
  customFetch,
  decodeProtectedHeader,
  errors,
  jwtVerify,
  type FetchImplementation,
  type JWTPayload,
  type JWTVerifyGetKey,
  type ProtectedHeaderParameters,
} from 'jose'
import { LRUCache } from 'lru-cache'
import { isStorable, printable } from '../http/values.ts'
import { readScope, type Scope } from './scopes.ts'

/**
 * The token is at fault: it is invalid or has expired. The message is for whoever runs the server, and
 * repeats a single claim of the token at most.
 */
export class TokenError extends Error {
  override readonly name = 'TokenError'
  readonly reason: 'invalid' | 'expired'
  /** What its bearer is told to do, if that is not to sign in again. */
  readonly detail: string | undefined

  constructor(reason: 'invalid' | 'expired', message: string, detail?: string) {
    super(message)
    this.reason = reason
    this.detail = detail
  }
}

/** The auth server is at fault: its keys are needed and cannot be fetched. */
export class AuthUnavailable extends Error {
  override readonly name = 'AuthUnavailable'
}

/** Where tokens come from that are signed with keys of their own. */
export type AuthServer = {
  /** Where the auth server publishes its public keys. */
  keySetUrl: URL
  /** What a token's `iss` must be. */
  issuer: string
  /** What a token's `aud` must be or contain. */
  audience: string
}

/** What OAuth access tokens are for (RFC 9728), and who issues them. */
export type Resource = {
  /** What a token's `aud` must be or contain. */
  url: string
  /** What a token's `iss` must be. */
  authorizationServer: string
  /** Where clients read the two lines above. */
  metadataUrl: string
}

/** Who bears a token (`sub`), and until when it is good, in seconds since 1970 (`exp`). */
export type Bearer = {
  userId: string
  expires: number
  /** What it may do, if not all that its user may: it was given to a program. */
  scopes?: readonly Scope[] | undefined
  /**
   * Asks whether it is still good, if it can be taken back before it expires.
   *
   * @throws TokenError, DatabaseUnavailable
   */
  recheck?: (() => Promise<unknown>) | undefined
  /** The id of the personal key that it is. */
  keyId?: number | undefined
}

/**
 * Verifies a JWT.
 *
 * @param resource whose OAuth access tokens are taken, too; without it, none are
 * @throws TokenError, AuthUnavailable
 */
export type VerifyToken = (token: string, resource?: Resource) => Promise<Bearer>

type Claims = Bearer & {
  notBefore: number
  /** The URL of the one resource that it is for. */
  resource?: string | undefined
}
/** What `iss` and `aud` must be. */
type Expected = Pick<AuthServer, 'issuer' | 'audience'>
type CheckSignature = (token: string, expected?: Expected) => Promise<JWTPayload>

const keySetAlgorithms = ['EdDSA', 'Ed25519', 'ES256', 'RS256', 'PS256']
const clockTolerance = 5 // s
const longestToken = 16 * 1024 // characters
const longestUserId = 255 // characters
const rememberedTokens = 10_000
const longestRememberedToken = 2 * 1024 // characters; with the line above, 20 MB at most
/** The last second that RFC 3339 can write, in seconds since 1970. */
export const endOfTime = 253_402_300_799
const keySetMaxAge = 10 * 60_000 // ms
const keySetCooldown = 1_000 // ms
const keySetTimeout = 5_000 // ms
const longestKeySet = 1024 * 1024 // bytes: hundreds of keys; parsing 28 MB holds everybody up for 0.3 s

/**
 * Makes the verifier of this server's two families of token: HS256 under the shared secret, and
 * those that the auth server signs with its own keys. The header's `alg` chooses the family from a
 * fixed list, so that a public key never serves as an HMAC secret (RFC 8725, 3.1), and nothing else
 * of the header is believed: `jku`, `jwk` and `x5u` are never followed.
 *
 * Either may be an OAuth access token (RFC 9068), by its `typ`. That is for one resource, and no other
 * takes it; it may do what its `scope` says and no more.
 *
 * A verified token is remembered until it expires, or its key set changes: verifying one costs
 * 16–54 µs, remembering under 0.1 µs.
 *
 * @param now the time in milliseconds since 1970
 */
export function createTokenVerifier(
  { secret, authServer }: { secret?: string; authServer?: AuthServer },
  now: () => number = Date.now,
): VerifyToken {
  const remembered = new LRUCache<string, Claims>({ max: rememberedTokens })
  const checkSecret =
    secret === undefined ? refuseWithout('BETTER_AUTH_SECRET') : secretChecker(secret)
  const keySet =
    authServer === undefined
      ? { check: refuseWithout('BETTER_AUTH_URL'), refreshWhenOld() {} }
      : openKeySet(authServer, () => remembered.clear(), now)

  async function check(token: string, resource: Resource | undefined): Promise<Claims> {
    if (token.length > longestToken)
      throw new TokenError('invalid', `longer than ${longestToken} characters`)
    const { alg: algorithm = 'none', typ } = headerOf(token)
    const isAccess = isAccessToken(typ)
    if (isAccess && resource === undefined) throw new TokenError('invalid', notForHere)
    const only = isAccess ? resource : undefined
    const expected = only && { issuer: only.authorizationServer, audience: only.url }
    if (algorithm === 'HS256') return claimsOf(await checkSecret(token, expected), only)
    if (keySetAlgorithms.includes(algorithm))
      return claimsOf(await keySet.check(token, expected), only)
    throw new TokenError(
      'invalid',
      `alg ${shown(algorithm)} is not one of HS256, ${keySetAlgorithms.join(', ')}`,
    )
  }

  return async function verifyToken(token, resource) {
    keySet.refreshWhenOld()
    const known = remembered.get(token)
    const claims = known ?? (await check(token, resource))
    if (claims.resource !== undefined && claims.resource !== resource?.url)
      throw new TokenError('invalid', notForHere)
    const seconds = now() / 1000
    if (seconds >= claims.expires + clockTolerance) {
      remembered.delete(token)
      throw new TokenError('expired', 'expired')
    }
    if (seconds < claims.notBefore - clockTolerance)
      throw new TokenError('invalid', "nbf is later than this server's clock")
    if (!known && token.length <= longestRememberedToken) remembered.set(token, claims)
    return claims
  }
}

function refuseWithout(setting: string): CheckSignature {
  return async function refuseToken(token) {
    throw new TokenError('invalid', `${headerOf(token).alg} token, but ${setting} is not set`)
  }
}

function headerOf(token: string): ProtectedHeaderParameters {
  try {
    return decodeProtectedHeader(token)
  } catch {
    throw new TokenError('invalid', "not a JWT: is it Better Auth's session token?")
  }
}

/** Whether a value is text by which this API can tell a user. */
export function isUserId(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length >= 1 &&
    Array.from(value.slice(0, 2 * longestUserId + 1)).length <= longestUserId &&
    isStorable(value)
  )
}

const notForHere =
  'an OAuth access token, which is for /mcp alone, if PUBLIC_URL and BETTER_AUTH_URL are set'

/** An OAuth access token (RFC 9068, 2.1). Its audience is a single resource. */
function isAccessToken(typ: unknown): boolean {
  return typeof typ === 'string' && /^(application\/)?at\+jwt$/i.test(typ)
}

function claimsOf({ sub, exp, nbf, scope, cnf }: JWTPayload, only?: Resource): Claims {
  if (!isUserId(sub) || exp === undefined)
    throw new TokenError('invalid', `sub is not text of 1 to ${longestUserId} characters`)
  // Its bearer would have to prove that they hold a key (RFC 9449, 7.1), and nobody asks for that here.
  if (cnf !== undefined) throw new TokenError('invalid', 'bound to a key (cnf): not a bearer token')
  return {
    userId: sub,
    notBefore: nbf ?? -Infinity,
    expires: Math.min(exp, endOfTime),
    scopes: readScope(only ? (scope ?? '') : scope),
    resource: only?.url,
  }
}

/** What both families require of a token besides its signature. Its times are checked on every use. */
const claimOptions = { requiredClaims: ['sub', 'exp'], clockTolerance: Number.MAX_SAFE_INTEGER }

function secretChecker(secret: string): CheckSignature {
  const { hs256 } = jwt({ name: 'hs256', secret }).decorator
  const key = new TextEncoder().encode(secret)
  return async function checkSecret(token, expected) {
    // By itself the plugin takes HS512 too, and tokens that never end; these options close that.
    const options = { ...claimOptions, algorithms: ['HS256'], ...expected }
    const payload = await hs256.verify(token, options)
    if (payload !== false) return payload
    // The plugin does not say why.
    const error = await jwtVerify(token, key, options).catch((thrown: unknown) => thrown)
    throw new TokenError('invalid', explain(error, token, 'BETTER_AUTH_SECRET', expected))
  }
}

/** Why a token is refused, for whoever runs the server. */
function explain(error: unknown, token: string, keys: string, expected?: Expected): string {
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return `${headerOf(token).alg} signature does not match ${keys}`
  if (error instanceof errors.JWKSNoMatchingKey) return `the kid is not among ${keys}`
  if (error instanceof errors.JWTClaimValidationFailed && expected) {
    const { iss, aud } = error.payload
    if (error.claim === 'iss' && iss !== undefined)
      return `iss ${shown(iss)} is not ${expected.issuer}`
    if (error.claim === 'aud' && aud !== undefined)
      return `aud ${shown(aud)} is not ${expected.audience}`
  }
  return error instanceof Error ? shown(error.message) : 'not valid'
}

function shown(claim: unknown): string {
  return printable(typeof claim === 'string' ? claim : JSON.stringify(claim))
}

/** @throws Error if it is too long, without reading on */
async function fetchKeySet(url: string, options: FetchOptions): Promise<Response> {
  const leaving = new AbortController()
  const signal = AbortSignal.any([options.signal, leaving.signal])
  const response = await fetch(url, { ...options, signal })
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > longestKeySet) {
      leaving.abort()
      throw new Error(`the answer has more than ${longestKeySet} bytes`)
    }
    chunks.push(chunk)
  }
  return new Response(Buffer.concat(chunks), response)
}

type FetchOptions = Parameters<FetchImplementation>[1]

function openKeySet(
  authServer: AuthServer,
  onRefresh: () => void,
  now: () => number,
): { check: CheckSignature; refreshWhenOld: () => void } {
  const { keySetUrl } = authServer
  const keys = `the keys at ${keySetUrl.origin}${keySetUrl.pathname}`
  let failure: { error: AuthUnavailable; at: number } | undefined

  // The keys never grow too old to be used, or an auth server that is away would take every user
  // with it. An unknown key makes jose fetch the set again, one fetch at a time and at most one a
  // second; a key that was taken out of the set is noticed by the refresh below.
  const keySet = createRemoteJWKSet(keySetUrl, {
    cacheMaxAge: Infinity,
    cooldownDuration: keySetCooldown,
    timeoutDuration: keySetTimeout,
    // jose counts the second from the last success alone: an auth server that fails would be asked
    // by every token with an unknown key.
    async [customFetch](url, options) {
      if (failure && performance.now() - failure.at < keySetCooldown) throw failure.error
      return fetchKeySet(url, options)
    },
  })
  let refreshedAt = now()

  function failed(thrown: unknown): AuthUnavailable {
    if (thrown instanceof AuthUnavailable) return thrown
    const why = thrown instanceof Error ? thrown.message : String(thrown)
    const error = new AuthUnavailable(`${keys} cannot be had: ${why}`)
    failure = { error, at: performance.now() }
    return error
  }

  const lookUp: JWTVerifyGetKey = async function lookUp(header, token) {
    try {
      return await keySet(header, token)
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) throw error
      if (error instanceof errors.JWKSMultipleMatchingKeys) throw error
      throw failed(error)
    }
  }

  const findKey: JWTVerifyGetKey = async function findKey(header, token) {
    const mayNotFetch = keySet.coolingDown
    try {
      return await lookUp(header, token)
    } catch (error) {
      if (!mayNotFetch || !(error instanceof errors.JWKSNoMatchingKey)) throw error
      // The key may be newer than the set that was fetched a moment ago.
      await Bun.sleep(keySetCooldown)
      return lookUp(header, token)
    }
  }

  return {
    refreshWhenOld() {
      if (now() - refreshedAt < keySetMaxAge) return
      refreshedAt = now()
      // A failure changes nothing: the last good keys stay, and the next refresh is ten minutes away.
      keySet.reload().then(onRefresh, failed)
    },
    async check(token, expected = authServer) {
      const { issuer, audience } = expected
      try {
        const { payload } = await jwtVerify(token, findKey, {
          ...claimOptions,
          algorithms: keySetAlgorithms,
          issuer,
          audience,
        })
        return payload
      } catch (error) {
        if (error instanceof AuthUnavailable) throw error
        throw new TokenError('invalid', explain(error, token, keys, expected))
      }
    },
  }
}
