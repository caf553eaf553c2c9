import { ApiError } from '../http/failures.ts'

/** What a token that stands for its user in part may do. Reading and writing are apart, as in OAuth. */
export const scopes = ['tasks:read', 'tasks:write'] as const
export type Scope = (typeof scopes)[number]

/**
 * The words of a token's `scope` claim (RFC 8693, 4.2: with spaces between) that mean something here.
 * Some auth servers send a list.
 *
 * @returns undefined if there is no claim: the token may do all that its user may
 */
export function readScope(claim: unknown): Scope[] | undefined {
  if (claim === undefined) return undefined
  const words: unknown[] = Array.isArray(claim)
    ? claim
    : typeof claim === 'string'
      ? claim.split(' ')
      : []
  return scopes.filter((scope) => words.includes(scope))
}

/** @throws ApiError 403 `insufficient_scope` (RFC 6750, 3.1) */
export function expectScope(
  { scopes: given }: { scopes?: readonly Scope[] | undefined },
  needed: Scope,
): void {
  if (given === undefined || given.includes(needed)) return
  throw new ApiError('insufficient_scope', {
    headers: { 'www-authenticate': `Bearer error="insufficient_scope", scope="${needed}"` },
  })
}
