import { stranger, type Bearer } from '../auth/tokens.ts'
import type { Database } from '../db/pool.ts'
import { ApiError } from '../http/failures.ts'

export const ticketLifetime = 30 // s
const unknownFor = 60 // s

export type Tickets = ReturnType<typeof createTickets>

/**
 * Admissions to the stream of events for browsers, whose `EventSource` cannot send a header: good
 * once, for half a minute, at any process. The database keeps their digests only.
 */
export function createTickets({ queryFor }: Pick<Database, 'queryFor'>) {
  const issue = async ({ userId, expires, recheck }: Bearer): Promise<string> => {
    // A ticket does not say of which token it came. If that can be taken back, what the ticket opens
    // ends in time for it.
    const soon = Date.now() / 1000 + unknownFor
    const until = recheck ? Math.min(expires, soon) : expires
    const ticket = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString('base64url')
    await queryFor(userId)`
      insert into todo_api.event_tickets (hash, user_id, token_expires_at, expires_at)
      values (
        ${hash(ticket)}, ${userId}, to_timestamp(${until}::float8),
        now() + make_interval(secs => ${ticketLifetime}::float8)
      )`
    return ticket
  }

  /** @throws ApiError 401 */
  const redeem = async (ticket: string): Promise<Bearer> => {
    const [found] = await queryFor(stranger)<Found>`
      delete from todo_api.event_tickets where hash = ${hash(ticket)}
      returning
        user_id, extract(epoch from token_expires_at)::numeric::text as expires, expires_at > now() as is_good`
    return bearerOf(found)
  }

  /**
   * The same without using it up.
   *
   * @throws ApiError 401
   */
  const look = async (ticket: string): Promise<Bearer> => {
    const [found] = await queryFor(stranger)<Found>`
      select
        user_id, extract(epoch from token_expires_at)::numeric::text as expires, expires_at > now() as is_good
      from todo_api.event_tickets where hash = ${hash(ticket)}`
    return bearerOf(found)
  }

  return { issue, redeem, look }
}

type Found = { user_id: string; expires: string; is_good: boolean }

function bearerOf(found: Found | undefined): Bearer {
  if (!found?.is_good)
    throw new ApiError('token_invalid', {
      headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
      reason: `the ticket is unknown, used or older than ${ticketLifetime} s`,
    })
  return { userId: found.user_id, expires: Number(found.expires) }
}

function hash(ticket: string): string {
  return new Bun.CryptoHasher('sha256').update(ticket).digest('base64url')
}
