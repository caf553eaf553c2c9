import type { Asked } from '../auth/current-user.ts'
import type { Answers } from '../http/answers.ts'
import { readPosition } from '../tasks/sync-token.ts'
import type { ChangeFeed } from './changes.ts'
import type * as contracts from './contracts.ts'
import type { Live } from './live.ts'
import type { Changes, Ticket } from './schemas.ts'
import { ticketLifetime, type Tickets } from './tickets.ts'

/** What the routes are made of. */
export type SyncParts = { changes: ChangeFeed; live: Live; tickets: Tickets; answers: Answers }

/** A request to the route with this contract, and what answers it. */
type Call<Contract> = Asked<Contract> & SyncParts

const changesAtOnce = 500

export async function listChanges({
  changes,
  answers,
  userId,
  query,
  set,
  request,
  server,
}: Call<typeof contracts.listChanges>): Promise<Changes> {
  return answers.send<Changes>({ userId, set, request, server }, async function readChanges(most) {
    const limit = query.limit ?? changesAtOnce
    const page = await changes.since(userId, query.since, limit, most)
    const { items, deleted, token, hasMore, bytes } = page
    return {
      json: `{"items":${items},"deleted":${deleted},"sync_token":"${token}","has_more":${hasMore}}`,
      bytes,
    }
  })
}

export async function streamEvents({
  live,
  userId,
  expires,
  recheck,
  query,
  headers,
  set,
  request,
  server,
}: Call<typeof contracts.streamEvents>): Promise<Response> {
  // An EventSource gives up for good on an error: what it cannot resume from is a resync.
  const seen = headers['last-event-id'] || query.since
  const after = seen === undefined ? undefined : readPosition(seen, userId)
  const isHead = request.method === 'HEAD' // would wait for the end of the stream
  const stream = isHead ? null : await live.open({ userId, expires, recheck }, after)
  // It is quiet for longer than the runtime lets a connection be.
  server?.timeout(request, 0)
  set.headers['cache-control'] = 'private, no-store'
  return new Response(stream, {
    headers: { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' },
  })
}

export async function issueTicket({
  tickets,
  userId,
  expires,
  recheck,
  keyId,
  set,
}: Call<typeof contracts.issueTicket>): Promise<Ticket> {
  const ticket = await tickets.issue({ userId, expires, recheck, keyId })
  set.status = 201
  return { ticket, expires_in: ticketLifetime }
}
