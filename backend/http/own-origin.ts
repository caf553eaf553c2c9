import { Elysia } from 'elysia'
import { ApiError } from './failures.ts'

/** A host that is no name, so nobody's DNS can have pointed it at this machine (DNS rebinding). */
const isNoName = /^(localhost|[\d.]+|\[[\dA-Fa-f:.]+\])(:\d+)?$/

/**
 * Refuses pages of any origin that is neither allowed nor this server's own with 403, before anything
 * else is said. A browser sends no preflight for some requests, and CORS only hides their answers.
 *
 * @param allowed origins
 */
export function ownOrigins(allowed: readonly string[]) {
  return new Elysia({ name: 'own-origins', seed: allowed }).onTransform(
    { as: 'scoped' },
    async function refuseOrigin({ request: { headers } }) {
      const origin = headers.get('origin')
      if (origin === null || allowed.includes(origin)) return
      const host = origin.slice(origin.indexOf('://') + 3)
      if (host === headers.get('host') && isNoName.test(host)) return
      throw new ApiError('origin_not_allowed')
    },
  )
}
