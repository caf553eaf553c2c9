import { Elysia } from 'elysia'
import type { Logger } from 'pino'
import { oncePerSecond } from './once-per-second.ts'
import { printable } from './values.ts'

/**
 * Logs pages that a browser will not show our answers to. The page's developer sees a
 * CORS error that does not say why. A page of this very server, such as `/docs`, needs no leave.
 */
export function refusedOrigins(corsOrigins: string[], log: Logger) {
  const isDue = oncePerSecond()
  return new Elysia({ name: 'refused-origins' }).onRequest(function tellOfOrigin({ request, set }) {
    const origin = request.headers.get('origin')
    if (origin === null || corsOrigins.includes(origin)) return
    if (origin.slice(origin.indexOf('://') + 3) === request.headers.get('host')) return
    const reason = `${printable(origin)} is not in CORS_ORIGINS`
    if (isDue(reason)) log.warn({ request_id: set.headers['x-request-id'] }, reason)
  })
}
