import type { StaticDecode, TOptional, TSchema } from '@sinclair/typebox'
import { Elysia, type Context } from 'elysia'
import { ApiError } from '../http/failures.ts'
import type { Limit } from '../http/rate-limit.ts'
import { expectScope, type Scope } from './scopes.ts'
import { TokenError, type Bearer, type Resource, type VerifyToken } from './tokens.ts'

/** Tells who sent a request from its `Authorization` header (RFC 6750), or refuses with 401. */
export type Authenticate = (authorization: string | null | undefined) => Promise<Bearer>

/** @param resource whose OAuth access tokens are taken, too; a 401 says where clients get one */
export function createAuthenticate(verifyToken: VerifyToken, resource?: Resource): Authenticate {
  const metadata = resource && `resource_metadata="${resource.metadataUrl}"` // RFC 9728, 5.1
  function challenge(error?: string) {
    const parameters = [error, metadata].filter((parameter) => parameter !== undefined)
    return { 'www-authenticate': ['Bearer', parameters.join(', ')].filter(Boolean).join(' ') }
  }

  return async function authenticate(authorization) {
    const [, token] = /^bearer +(.+)$/i.exec(authorization ?? '') ?? []
    if (token === undefined) throw new ApiError('token_missing', { headers: challenge() })
    try {
      return await verifyToken(token, resource)
    } catch (error) {
      if (error instanceof TokenError) throw refusalOf(error, challenge('error="invalid_token"'))
      throw error
    }
  }
}

/** @param headers the challenge to the bearer (RFC 6750, 3) */
function refusalOf(
  { reason, detail, message }: TokenError,
  headers: Record<string, string>,
): ApiError {
  const told = { headers, ...(detail && { detail }) }
  return reason === 'expired'
    ? new ApiError('token_expired', told)
    : new ApiError('token_invalid', { ...told, reason: message })
}

/** Tells who was given a ticket, in place of a token. It throws TokenError if the ticket is not good. */
type AdmitTicket = (ticket: string) => Promise<Bearer>

/** Admits the bearer of a ticket, or refuses with 401. */
async function authenticateTicket(admit: AdmitTicket, ticket: string): Promise<Bearer> {
  try {
    return await admit(ticket)
  } catch (error) {
    if (error instanceof TokenError) throw refusalOf(error, invalidTicket)
    throw error
  }
}

const invalidTicket = { 'www-authenticate': 'Bearer error="invalid_token"' }

/**
 * What a request asks of its bearer: a scope, by its method unless one is named; to be the user, and not
 * a program that acts for them; or a scope that the route checks by itself.
 */
type Needs = Scope | 'the user' | 'see route'

/**
 * Resolves `userId` from the bearer token, before anything about the body. It is `derive`, not
 * `resolve`: that one runs after validation, and a stranger would be told about the body first.
 * A path that names a user must name the token's. The request counts against the user's quota.
 *
 * @param tickets what a request may bring in place of a token
 */
export function currentUser(
  authenticate: Authenticate,
  limitUser: Limit,
  { tickets, needs }: { tickets?: { redeem: AdmitTicket; look: AdmitTicket }; needs?: Needs } = {},
) {
  return new Elysia({ name: 'current-user', seed: [needs, tickets !== undefined] }).derive(
    { as: 'scoped' },
    async function resolveCurrentUser({ headers, params, query, request, set }) {
      // What is behind a token is for its bearer alone, and may change at any time.
      set.headers['vary'] = 'Authorization, Origin'
      set.headers['cache-control'] = 'private, no-cache'
      const given =
        tickets && query['ticket'] !== undefined
          ? // HEAD changes nothing (RFC 9110, 9.2.1): the ticket is still good for the stream itself.
            await authenticateTicket(
              request.method === 'HEAD' ? tickets.look : tickets.redeem,
              query['ticket'],
            )
          : await authenticate(headers['authorization'])
      const { userId, expires, scopes, recheck, keyId } = given
      limitUser(userId, set.headers)
      // If the path has no parameters Elysia gives none, whatever its types say.
      const { user_id: named = userId } = (params ?? {}) as { user_id?: string | null }
      if (named !== userId) throw new ApiError('wrong_user')
      if (needs === 'the user' && scopes !== undefined) throw new ApiError('key_not_allowed')
      if (needs !== 'the user' && needs !== 'see route')
        expectScope({ scopes }, needs ?? scopeFor(request.method))
      return { userId, expires, scopes, recheck, keyId }
    },
  )
}

function scopeFor(method: string): Scope {
  return method === 'GET' || method === 'HEAD' ? 'tasks:read' : 'tasks:write'
}

/** What the handler of a user's route is given; the rest of it by the route's contract. */
export type Asked<Contract> = Bearer &
  Pick<Context, 'set' | 'request' | 'path' | 'server'> & {
    params: Part<Contract, 'params'>
    query: Part<Contract, 'query'>
    headers: Part<Contract, 'headers'>
    body: Part<Contract, 'body'>
  }

type Part<Contract, Name extends string> =
  Contract extends Record<Name, infer Schema extends TSchema>
    ? StaticDecode<Schema> | (Schema extends TOptional<TSchema> ? null : never)
    : unknown
