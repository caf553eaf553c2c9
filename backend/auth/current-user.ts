import { Elysia } from 'elysia'
import { ApiError } from '../errors.ts'
import type { Limit } from '../http/rate-limit.ts'
import { TokenError, type Bearer, type VerifyToken } from './tokens.ts'

/** Tells who sent a request from its `Authorization` header (RFC 6750), or refuses with 401. */
export type Authenticate = (authorization: string | null | undefined) => Promise<Bearer>

export function createAuthenticate(verifyToken: VerifyToken): Authenticate {
  return async function authenticate(authorization) {
    const [, token] = /^bearer +(.+)$/i.exec(authorization ?? '') ?? []
    if (token === undefined)
      throw new ApiError('token_missing', { headers: { 'www-authenticate': 'Bearer' } })
    try {
      return await verifyToken(token)
    } catch (error) {
      if (!(error instanceof TokenError)) throw error
      throw new ApiError(error.reason === 'expired' ? 'token_expired' : 'token_invalid', {
        headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
      })
    }
  }
}

/** Tells who was given a ticket, in place of a token, or refuses with 401. */
export type RedeemTicket = (ticket: string) => Promise<Bearer>

/**
 * Resolves `userId` from the bearer token, before anything about the body. It is `derive`, not
 * `resolve`: that one runs after validation, and a stranger would be told about the body first.
 * A path that names a user must name the token's. The request counts against the user's quota.
 */
export function currentUser(
  authenticate: Authenticate,
  limitUser: Limit,
  redeemTicket?: RedeemTicket,
) {
  return new Elysia({ name: 'current-user', seed: redeemTicket }).derive(
    { as: 'scoped' },
    async function resolveCurrentUser({ headers, params, query, set }) {
      // What is behind a token is for its bearer alone, and may change at any time.
      set.headers['vary'] = 'Authorization, Origin'
      set.headers['cache-control'] = 'private, no-cache'
      const { userId, expires, recheck } =
        redeemTicket && query['ticket'] !== undefined
          ? await redeemTicket(query['ticket'])
          : await authenticate(headers['authorization'])
      limitUser(userId, set.headers)
      // Where the path has no parameters Elysia gives none, whatever its types say.
      const { user_id: named = userId } = (params ?? {}) as { user_id?: string | null }
      if (named !== userId) throw new ApiError('wrong_user')
      return { userId, expires, recheck }
    },
  )
}
