import { cors } from '@elysiajs/cors'

const allowedHeaders = [
  'Authorization',
  'Content-Type',
  'If-Match',
  'If-None-Match',
  'Idempotency-Key',
  'Last-Event-ID',
  'X-Request-Id',
  'MCP-Protocol-Version',
  'Mcp-Method',
  'Mcp-Name',
]

const exposedHeaders = [
  'ETag',
  'Link',
  'Location',
  'X-Total-Count',
  'Sync-Token',
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'Idempotent-Replayed',
  'WWW-Authenticate',
  'X-Request-Id',
]

/** Lets pages of these origins call the API. The plugin's defaults would let in any page. */
export function crossOrigin(origins: string[]) {
  return cors({
    origin: origins,
    credentials: true,
    methods: ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'],
    allowedHeaders: [...allowedHeaders],
    exposeHeaders: [...exposedHeaders],
    maxAge: 600,
  })
}
