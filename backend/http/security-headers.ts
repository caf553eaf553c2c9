import { Elysia } from 'elysia'
import type { Proxies } from './proxies.ts'

/**
 * On every answer that says nothing else: it is what it says it is, it is kept by nobody, it loads
 * nothing and is shown in no frame.
 */
export const securityHeaders = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
} as const

/**
 * For the page at `/docs`: its own files, and requests to this server. Swagger UI shows pictures in
 * `data:` URLs.
 */
export const docsSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/**
 * A year. Not `includeSubDomains`: what else runs under this host's name, and whether it has TLS, is
 * not for an API to decide, and browsers would keep to it for the year.
 */
const strictTransport = 'max-age=31536000'

/**
 * Gives every answer its security headers, and those that left the trusted proxy over TLS HSTS as
 * well; over plain HTTP it may not be sent (RFC 6797, 7.2).
 */
export function security(proxies: Proxies) {
  const plugin = new Elysia({ name: 'security-headers' }).headers(securityHeaders)
  if (!proxies.areConfigured) return plugin
  return plugin.onRequest(function secureTransport({ request, set, server }) {
    if (proxies.isOverTls(request, server))
      set.headers['strict-transport-security'] = strictTransport
  })
}
