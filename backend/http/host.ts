import { Elysia } from 'elysia'
import { ApiError } from './failures.ts'

/** `uri-host [":" port]` of RFC 3986, 3.2.2 and 3.2.3, which a Host header is by RFC 9110, 7.2. */
const hostAndPort = /^(?:(?:[\w.~!$&'()*+,;=-]|%[\dA-F]{2})+|\[[\dA-F:.]+\])(?::\d{0,5})?$/i

/** Load balancers ask for these in HTTP/1.0, which needs no Host; HAProxy's httpchk does. */
const probes = ['/health', '/ready']

/**
 * Refuses a request without a proper `Host` with 400, as RFC 9112, 3.2 demands. The runtime gives
 * such a request a URL without one, and the router, which looks for the path behind the host, would
 * skip the path's beginning: `/public/api/tasks` would be `/api/tasks`, past the rules of a proxy.
 */
export function properHost() {
  return new Elysia({ name: 'proper-host' }).onRequest(function refuseWrongHost({ request }) {
    const host = request.headers.get('host')
    if (host === null && probes.includes(request.url)) return
    if (request.url.startsWith('/') || host === null || !hostAndPort.test(host))
      throw new ApiError('bad_request')
  })
}
