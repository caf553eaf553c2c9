import type { TSchema } from '@sinclair/typebox'
import type { ValueError } from '@sinclair/typebox/errors'
import { Elysia, NotFoundError, ValidationError, t } from 'elysia'
import { AuthUnavailable } from './auth/tokens.ts'
import { DatabaseUnavailable } from './db/pool.ts'
import { QueueFull, WaitedTooLong } from './db/turns.ts'
import { securityHeaders } from './http/security-headers.ts'
import { describeExpectation, OneOf } from './http/values.ts'

/** Every way in which a request can fail: its code, its status and what a person is told. */
export const failures = {
  bad_request: {
    status: 400,
    detail: 'The Host header is missing, or is not the name of a host',
  },
  token_missing: {
    status: 401,
    detail: 'Send your token in the header Authorization: Bearer <token>',
  },
  token_invalid: { status: 401, detail: 'The token is not valid; sign in again to get a new one' },
  token_expired: { status: 401, detail: 'The token has expired; sign in again to get a new one' },
  not_owner: { status: 403, detail: 'You do not own this task' },
  wrong_user: { status: 403, detail: 'The path names another user than the token' },
  task_not_found: { status: 404, detail: 'There is no task with this id' },
  route_not_found: {
    status: 404,
    detail: 'There is nothing at this path; the documentation lists every route',
  },
  idempotency_in_progress: {
    status: 409,
    detail: 'The first request with this Idempotency-Key still runs; ask again shortly',
    retryAfter: 1,
  },
  task_limit_reached: {
    status: 409,
    detail: 'You have as many tasks as one user may have; delete some first',
  },
  sync_token_expired: {
    status: 410,
    detail: 'Changes since this token have been forgotten; start again without one',
  },
  version_conflict: {
    status: 412,
    detail: 'The task has been changed since you read it; see current',
  },
  method_not_allowed: {
    status: 405,
    detail: 'This path does not take this method; see the Allow header',
  },
  body_too_large: { status: 413, detail: 'The body is larger than 64 KiB' },
  unsupported_media_type: {
    status: 415,
    detail: 'Send the body as Content-Type: application/json, in UTF-8 and not compressed',
  },
  malformed_json: { status: 422, detail: 'The body is not valid JSON' },
  validation_failed: {
    status: 422,
    detail: 'The request is not what this route takes; see errors',
  },
  idempotency_key_reused: {
    status: 422,
    detail: 'This Idempotency-Key was used for another request; make a new one',
  },
  rate_limited: {
    status: 429,
    detail: 'Too many requests; wait for as many seconds as Retry-After says',
  },
  // nginx's status for it: for the log alone, since nobody is there to read the answer.
  client_left: { status: 499, detail: 'The client left before the end of its request' },
  internal_error: {
    status: 500,
    detail: 'Something went wrong on our side; tell us the request_id',
  },
  database_unavailable: {
    status: 503,
    detail: 'The database cannot be reached right now; try again shortly',
    retryAfter: 1,
  },
  auth_unavailable: {
    status: 503,
    detail: 'The sign-in server cannot be reached right now; try again shortly',
    retryAfter: 1,
  },
  server_stopping: {
    status: 503,
    detail: 'This server is about to stop; another one serves',
    retryAfter: 1,
  },
} as const satisfies Record<string, KindOfFailure>

/** `retryAfter` in seconds: the same request may succeed then. */
type KindOfFailure = { status: number; detail: string; retryAfter?: number }

export type FailureCode = keyof typeof failures

/** A request that fails in one of the known ways. The answer says no more than what is given here. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly code: FailureCode
  readonly headers: Record<string, string>
  readonly errors: FieldError[] | undefined
  /** The task as it is, in JSON. */
  readonly current: string | undefined
  /** What the log is told and the client is not. */
  readonly reason: string | undefined

  constructor(
    code: FailureCode,
    extra: {
      headers?: Record<string, string>
      errors?: FieldError[]
      current?: string
      reason?: string
    } = {},
  ) {
    const { detail, retryAfter }: KindOfFailure = failures[code]
    super(extra.errors?.[0] ? sentenceOf(extra.errors[0]) : detail)
    this.code = code
    this.headers = {
      ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }),
      ...extra.headers,
    }
    this.errors = extra.errors
    this.current = extra.current
    this.reason = extra.reason
  }
}

export const FieldError = t.Object({
  field: t.String({ description: 'The field, parameter or header; `body` for the whole body' }),
  detail: t.String({ description: 'What is wrong with it, for a person' }),
})
export type FieldError = typeof FieldError.static

/** Many clients show `detail` alone: for a 422 it is the first of its errors. */
export function sentenceOf({ field, detail }: FieldError): string {
  return `${field}: ${detail}`
}

/** What a request that failed in one of these ways is answered with. */
export function Failure<const Codes extends [FailureCode, ...FailureCode[]]>(...codes: Codes) {
  return t.Object({
    detail: t.String({ description: 'What went wrong, a sentence for a person' }),
    code: OneOf(codes, { description: 'What went wrong, stable, for a program' }),
    request_id: t.String({ description: 'Also in X-Request-Id and in our log' }),
  })
}

/** A 422 says what to mend, too. */
export function Invalid<const Codes extends [FailureCode, ...FailureCode[]]>(...codes: Codes) {
  return t.Composite([Failure(...codes), t.Object({ errors: t.Array(FieldError) })])
}

/** A 412 gives the resource as it is. */
export function Conflict<Resource extends TSchema>(current: Resource) {
  return t.Composite([Failure('version_conflict'), t.Object({ current })])
}

type ErrorBody = {
  detail: string
  code: FailureCode
  request_id: string
  errors?: FieldError[]
  current?: unknown
}

const codes = new WeakMap<Request, FailureCode>()

/** How a request failed, for the log. Absent: it did not. */
export function codeOf(request: Request): FailureCode | undefined {
  return codes.get(request)
}

/** Tells the log what a client is not told, under the id that it is given. */
export type Report = (failure: {
  requestId: string
  route: string | undefined
  /** What the client is told, and with a `reason` why. */
  failure: ApiError
  /** What was thrown. */
  cause: unknown
}) => void

/**
 * The one place where a failure becomes a response. Use it before anything else: registered last,
 * Elysia asks it for unknown routes only.
 *
 * @param explainUnknownRoute what to answer where no route takes the request: 401, 404 or 405
 */
export function errors(
  report: Report,
  explainUnknownRoute: (request: Request, path: string) => Promise<Error>,
) {
  return new Elysia({ name: 'errors' }).onError(
    { as: 'global' },
    async function answerFailure({ error, set, request, route, path }): Promise<ErrorBody> {
      const cause: unknown =
        error instanceof NotFoundError
          ? await explainUnknownRoute(request, path).catch((thrown: unknown) => thrown)
          : error
      const failure = translate(cause)
      const requestId = String(set.headers['x-request-id'])
      const { status } = failures[failure.code]
      codes.set(request, failure.code)
      // What a hook or route answers on purpose is no failure of ours.
      if ((status >= 500 && cause !== failure) || failure.reason !== undefined)
        report({ requestId, route, failure, cause })
      set.status = status
      Object.assign(set.headers, failure.headers, {
        'content-type': 'application/json',
        'cache-control': 'no-store',
      })
      return {
        detail: failure.message,
        code: failure.code,
        request_id: requestId,
        ...(failure.errors && { errors: failure.errors }),
        ...(failure.current !== undefined && { current: JSON.parse(failure.current) }),
      }
    },
  )
}

/** For what fails outside of the app's hooks: in the framework itself, or by throwing `undefined`. */
export function answerLastResort(report: Report) {
  return function answerUncaught(error: unknown): Response {
    const requestId = crypto.randomUUID()
    report({ requestId, route: undefined, failure: new ApiError('internal_error'), cause: error })
    const { status, detail } = failures.internal_error
    return Response.json(
      { detail, code: 'internal_error', request_id: requestId } satisfies ErrorBody,
      {
        status,
        headers: {
          ...securityHeaders,
          'content-type': 'application/json',
          'x-request-id': requestId,
        },
      },
    )
  }
}

function translate(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof DatabaseUnavailable || error instanceof WaitedTooLong)
    return new ApiError('database_unavailable')
  if (error instanceof QueueFull)
    return new ApiError('rate_limited', { headers: { 'retry-after': '1' } })
  if (error instanceof AuthUnavailable)
    return new ApiError('auth_unavailable', { reason: error.message })
  // An answer that breaks its own schema is a ValidationError too, and our fault.
  if (error instanceof ValidationError && error.type !== 'response')
    return new ApiError('validation_failed', { errors: fieldErrors(problemsOf(error), error.type) })
  return new ApiError('internal_error')
}

function problemsOf({ all }: ValidationError): ValueError[] {
  return all.filter((problem): problem is ValueError & typeof problem => 'schema' in problem)
}

const mostFieldErrors = 64

/**
 * What is wrong with each field, the first thing of each.
 *
 * @param whole what to call a value that is wrong as a whole
 */
export function fieldErrors(problems: Iterable<ValueError>, whole: string): FieldError[] {
  const byField = new Map<string, string>()
  for (const problem of problems) {
    const field = problem.path.slice(1).replaceAll('/', '.') || whole
    if (!byField.has(field)) byField.set(field, describeExpectation(problem))
    if (byField.size >= mostFieldErrors) break
  }
  return [...byField].map(([field, detail]) => ({ field, detail }))
}
