import { TokenError, type Bearer } from '../auth/tokens.ts'
import { createLine } from '../db/line.ts'
import type { Database } from '../db/pool.ts'
import type { Fragment } from '../db/sql.ts'

export const ticketLifetime = 30 // s
const unknownFor = 60 // s

export type Tickets = ReturnType<typeof createTickets>

/**
 * Admissions to the stream of events for browsers, whose `EventSource` cannot send a header: good
 * once, for half a minute, at any process. The database keeps their digests only.
 *
 * Nobody knows whose a ticket is before it is looked up, so each has its own turn, and those that wait
 * at the same moment are looked up together: a flood of made-up ones keeps nobody out.
 *
 * A ticket issued for a personal key ends in the key's id, which the digest covers as well. It is good as
 * long as the key is, and opens what the key would.
 *
 * @param verifyKeyOf gives the bearer of a user's key, by its id; throws TokenError
 */
export function createTickets(
  {
    queryFor,
    queryWithin,
    fragment,
    deadline,
  }: Pick<Database, 'queryFor' | 'queryWithin' | 'fragment' | 'deadline'>,
  { verifyKeyOf }: { verifyKeyOf: (owner: string, id: number) => Promise<Bearer> },
) {
  const together = { width: 1, most: 64, deadline, longest: 500 }
  const columns = fragment`
    hash, user_id, extract(epoch from token_expires_at)::numeric::text as expires,
    expires_at > now() as is_good`
  const given = fragment`hash = any (array(select json_array_elements_text(${''}::text::json)))`
  const lookUp = createLine({
    send: createFind(fragment`select ${columns} from todo_api.event_tickets where ${given}`),
    ...together,
  })
  // Locked in order, so that two processes that use up the same ones do not wait for each other.
  const useUp = createLine({
    send: createFind(fragment`
      with given as (
        select hash from todo_api.event_tickets where ${given} order by hash for update
      )
      delete from todo_api.event_tickets where hash in (select hash from given)
      returning ${columns}`),
    rowOf: (ticket) => ticket, // or two uses in one statement would both be good
    ...together,
  })

  function createFind(statement: Fragment) {
    return async function find(
      hashes: readonly string[],
      left: number,
    ): Promise<(Found | undefined)[]> {
      const rows = await queryWithin(
        left,
        hashes.length,
      )<Found>`${statement.with([JSON.stringify(hashes)])}`
      const found = new Map(rows.map((row) => [row.hash, row]))
      return hashes.map((one) => found.get(one))
    }
  }

  const issue = async ({ userId, expires, recheck, keyId }: Bearer): Promise<string> => {
    // A ticket does not name its session. If sessions can be revoked, the stream ends soon enough to
    // honour that.
    const soon = Date.now() / 1000 + unknownFor
    const until = recheck ? Math.min(expires, soon) : expires
    const random = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString('base64url')
    const ticket = keyId === undefined ? random : `${random}.${keyId}`
    await queryFor(userId)`
      insert into todo_api.event_tickets (hash, user_id, token_expires_at, expires_at)
      values (
        ${hash(ticket)}, ${userId}, to_timestamp(${until}::float8),
        now() + make_interval(secs => ${ticketLifetime}::float8)
      )`
    return ticket
  }

  async function bearerOf(ticket: string, found: Found | undefined): Promise<Bearer> {
    if (!found?.is_good)
      throw new TokenError(
        'invalid',
        `the ticket is unknown, used or older than ${ticketLifetime} s`,
      )
    const [, keyId] = ticket.split('.')
    return keyId === undefined
      ? { userId: found.user_id, expires: Number(found.expires) }
      : verifyKeyOf(found.user_id, Number(keyId))
  }

  /** @throws TokenError */
  const redeem = async (ticket: string): Promise<Bearer> => {
    const digest = hash(ticket)
    return bearerOf(ticket, await useUp(digest, digest))
  }

  /**
   * The same without using it up.
   *
   * @throws TokenError
   */
  const look = async (ticket: string): Promise<Bearer> => {
    const digest = hash(ticket)
    return bearerOf(ticket, await lookUp(digest, digest))
  }

  return { issue, redeem, look }
}

type Found = { hash: string; user_id: string; expires: string; is_good: boolean }

function hash(ticket: string): string {
  return new Bun.CryptoHasher('sha256').update(ticket).digest('base64url')
}
