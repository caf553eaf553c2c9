import { Elysia } from 'elysia'
import { ApiError } from './failures.ts'
import type { Proxies } from './proxies.ts'

/** A host that is no name, so nobody's DNS can have pointed it at this machine (DNS rebinding). */
const isNoName = /^(localhost|[\d.]+|\[[\dA-Fa-f:.]+\])(:\d+)?$/

/**
 * Refuses pages of any origin that is neither allowed nor this server's own with 403, before anything
 * else is said. A browser sends no preflight for some requests, and CORS only hides their answers.
 *
 * This server's own is the host that the request was sent to, if it is an address or localhost, with the
 * scheme of the request: over TLS if a trusted proxy says so. A name, or a
 * proxy that is not trusted, needs PUBLIC_URL among the allowed ones.
 *
 * @param allowed origins
 */
export function ownOrigins(allowed: readonly string[], proxies: Proxies) {
  return new Elysia({ name: 'own-origins', seed: allowed }).onTransform(
    { as: 'scoped' },
    async function refuseOrigin({ request, server }) {
      const { headers } = request
      const origin = headers.get('origin')
      if (origin === null || allowed.includes(origin)) return
      const host = headers.get('host') ?? ''
      const scheme = proxies.isOverTls(request, server) ? 'https' : 'http'
      if (origin === `${scheme}://${host}` && isNoName.test(host)) return
      throw new ApiError('origin_not_allowed')
    },
  )
}
