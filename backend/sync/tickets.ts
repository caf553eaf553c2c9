import type { RedeemTicket } from '../auth/current-user.ts'
import type { Bearer } from '../auth/tokens.ts'
import type { Database } from '../db/pool.ts'
import { ApiError } from '../errors.ts'

export const ticketLifetime = 30 // s
const unknownFor = 60 // s

export type Tickets = ReturnType<typeof createTickets>

/**
 * Admissions to the stream of events for browsers, whose `EventSource` cannot send a header: good
 * once, for half a minute, at any process. The database keeps their digests only.
 */
export function createTickets({ query }: Pick<Database, 'query'>) {
  const issue = async ({ userId, expires, recheck }: Bearer): Promise<string> => {
    // A ticket does not say of which token it came. If that can be taken back, what the ticket opens
    // ends in time for it.
    const soon = Date.now() / 1000 + unknownFor
    const until = recheck ? Math.min(expires, soon) : expires
    const ticket = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString('base64url')
    await query`
      insert into event_tickets (hash, user_id, token_expires_at, expires_at)
      values (
        ${hash(ticket)}, ${userId}, to_timestamp(${until}::float8),
        now() + make_interval(secs => ${ticketLifetime}::float8)
      )`
    return ticket
  }

  const redeem: RedeemTicket = async (ticket) => {
    const [found] = await query<{ user_id: string; expires: number; is_good: boolean }>`
      delete from event_tickets where hash = ${hash(ticket)}
      returning
        user_id, extract(epoch from token_expires_at)::float8 as expires, expires_at > now() as is_good`
    if (!found?.is_good)
      throw new ApiError('token_invalid', {
        headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
      })
    return { userId: found.user_id, expires: found.expires }
  }

  return { issue, redeem }
}

function hash(ticket: string): string {
  return new Bun.CryptoHasher('sha256').update(ticket).digest('base64url')
}
