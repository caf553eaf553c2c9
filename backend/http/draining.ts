import { Elysia } from 'elysia'

/**
 * From when the server is told to stop until it does, every answer closes its connection (RFC 9112,
 * 9.6). On one that is kept, the next request might come in just as the server closes it, and be lost.
 */
export function drain(draining: AbortSignal | undefined) {
  return new Elysia({ name: 'drain' }).onRequest(function closeConnection({ set }) {
    if (draining?.aborted) set.headers['connection'] = 'close'
  })
}
