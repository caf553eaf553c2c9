import { failures, type FailureCode } from '../http/failures.ts'
import { securityHeaders } from '../http/security-headers.ts'
import type { Components, Reference } from './components.ts'

/** As much of an answer's schema as decides on its headers. */
export type AnswerSchema = {
  properties?: { code?: { enum?: FailureCode[] }; id?: object; version?: object }
}

/** One of the answers of an operation, or one that belongs to none. */
export type AnswerKind = {
  status: string
  schema: AnswerSchema | undefined
  codes: FailureCode[]
  /** Whether the operation takes an `Idempotency-Key`. */
  isWrite: boolean
  /** Whether the request may count against a quota. */
  isCounted: boolean
  /** Those that the route itself tells of. */
  headers: Record<string, RouteHeader>
}

/** A header of some answers of one route, as its `detail` tells of it. */
export type RouteHeader = { description: string; example: string | number; required?: boolean }

type AnswerHeader = {
  description: string
  example: string | number
  /** Whether an answer has it: `true` for always, `'maybe'` if some of its kind do. */
  on: (kind: AnswerKind) => boolean | 'maybe'
}

export const sampleRequestId = '0b1c6a52-4e2d-4f0e-9a51-6e6f1f6f8a55'

const isTask = ({ status, schema: { properties } = {} }: AnswerKind) =>
  status.startsWith('2') && properties?.id !== undefined && properties.version !== undefined

/**
 * The headers that the answers of many routes carry, besides those of CORS and of HTTP itself. What a
 * single route adds is in its own `detail`.
 */
const answerHeaders: Record<string, AnswerHeader> = {
  'X-Request-Id': {
    description: 'The id of this request in our log',
    example: sampleRequestId,
    on: () => true,
  },
  'Cache-Control': {
    description: 'What is behind a token is for its bearer alone; other answers are kept by nobody',
    example: 'private, no-cache',
    on: () => true,
  },
  'X-Content-Type-Options': {
    description: 'The body is what Content-Type says',
    example: securityHeaders['x-content-type-options'],
    on: () => true,
  },
  'Referrer-Policy': {
    description: 'Links tell nobody where they were',
    example: securityHeaders['referrer-policy'],
    on: () => true,
  },
  'Content-Security-Policy': {
    description: 'Shown as a page, an answer loads nothing and is in no frame',
    example: securityHeaders['content-security-policy'],
    on: () => true,
  },
  'Strict-Transport-Security': {
    description: 'Where a trusted proxy says that the request came over TLS',
    example: 'max-age=31536000',
    on: () => 'maybe',
  },
  'RateLimit-Policy': {
    description: 'The quotas that this request counts against, where there are any',
    example: '"address";q=3000;w=60, "user";q=600;w=60',
    on: ({ isCounted }) => isCounted && 'maybe',
  },
  RateLimit: {
    description: 'What is left of them (`r`), and the seconds until there is more (`t`)',
    example: '"address";r=2999;t=1, "user";r=599;t=1',
    on: ({ isCounted }) => isCounted && 'maybe',
  },
  Vary: {
    description: 'The request headers on which the answer depends',
    example: 'Authorization, Origin',
    on: () => true,
  },
  'WWW-Authenticate': {
    description: 'RFC 6750',
    example: 'Bearer error="invalid_token"',
    on: ({ status, codes }) =>
      status === '401' || (codes.includes('insufficient_scope') && 'maybe'),
  },
  Allow: {
    description: 'The methods that the path takes',
    example: 'GET, HEAD, OPTIONS',
    on: ({ status }) => status === '405',
  },
  'Retry-After': {
    description: 'Seconds to wait before trying again',
    example: 1,
    on: ({ codes }) => {
      const waits = codes.filter(
        (code) => code === 'rate_limited' || 'retryAfter' in failures[code],
      )
      return waits.length > 0 && (waits.length === codes.length || 'maybe')
    },
  },
  ETag: {
    description: 'The version of the task, or of the list',
    example: '"7"',
    on: (kind) => isTask(kind) || kind.status === '304',
  },
  Location: {
    description: 'Where the new task is',
    example: '/api/tasks/1',
    on: (kind) => isTask(kind) && kind.status === '201',
  },
  'Idempotent-Replayed': {
    description: '`true` on an answer that is given again',
    example: 'true',
    on: ({ isWrite, status }) => isWrite && status.startsWith('2') && 'maybe',
  },
}

/** The headers of an answer, as OpenAPI describes them. */
export function headersOf(kind: AnswerKind, components: Components): Record<string, Reference> {
  const common = Object.entries(answerHeaders).map(([name, { on, ...header }]) => {
    const presence = on(kind)
    return { name, header, isThere: presence !== false, required: presence === true }
  })
  const own = Object.entries(kind.headers).map(([name, { required = true, ...header }]) => {
    return { name, header, isThere: true, required }
  })
  return Object.fromEntries(
    [...common, ...own]
      .filter(({ isThere }) => isThere)
      .map(({ name, header, required }) => [
        name,
        components.refer(
          'headers',
          required ? name : `Optional-${name}`,
          describe(header, required),
        ),
      ]),
  )
}

function describe({ description, example }: Omit<RouteHeader, 'required'>, required: boolean) {
  const type = typeof example === 'number' ? 'integer' : 'string'
  return { description, required, schema: { type }, example }
}
