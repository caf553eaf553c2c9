import type { TSchema } from '@sinclair/typebox'
import type { ValueError } from '@sinclair/typebox/errors'
import { t } from 'elysia'
import { describeExpectation, inDetail, nameField, OneOf } from './values.ts'

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
  wrong_user: {
    status: 403,
    detail:
      'The path names another user than the token: what stands between /api/ and /tasks is read as the id of a user',
  },
  insufficient_scope: {
    status: 403,
    detail: 'This key or token may not do that; use one with the scope that WWW-Authenticate names',
  },
  key_not_allowed: {
    status: 403,
    detail: 'Keys are made, listed and revoked by their user alone: send the token of a session',
  },
  origin_not_allowed: {
    status: 403,
    detail:
      'Pages of this origin may not call this; whoever runs the server adds it to CORS_ORIGINS',
  },
  task_not_found: { status: 404, detail: 'There is no task with this id' },
  key_not_found: { status: 404, detail: 'You have no key with this id' },
  route_not_found: {
    status: 404,
    detail: 'There is nothing at this path; the documentation lists every route',
  },
  idempotency_in_progress: {
    status: 409,
    detail: 'The first request with this Idempotency-Key still runs; ask again shortly',
    retryAfter: 1,
  },
  bulk_refused: {
    status: 409,
    detail: 'Nothing was done, because one of the operations is refused; see results',
  },
  task_limit_reached: {
    status: 409,
    detail: 'You have as many tasks as one user may have; delete some first',
  },
  recurrence_ended: {
    status: 409,
    detail: 'No date comes after this one: the rule has ended, or the task is completed',
  },
  not_recurring: { status: 409, detail: 'This task does not come again; give it a recurrence' },
  key_limit_reached: {
    status: 409,
    detail: 'You have as many keys as one user may have; revoke one first',
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
  /** What became of each operation, in JSON. */
  readonly results: string | undefined
  /** What the log is told and the client is not. */
  readonly reason: string | undefined

  constructor(
    code: FailureCode,
    extra: {
      headers?: Record<string, string>
      errors?: FieldError[]
      current?: string
      results?: string
      reason?: string
      /** In place of what the table says. */
      detail?: string
    } = {},
  ) {
    const { detail, retryAfter }: KindOfFailure = failures[code]
    super(extra.errors?.[0] ? sentenceOf(extra.errors[0]) : (extra.detail ?? detail))
    this.code = code
    this.headers = {
      ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }),
      ...extra.headers,
    }
    this.errors = extra.errors
    this.current = extra.current
    this.results = extra.results
    this.reason = extra.reason
  }
}

export const FieldError = t.Object(
  {
    field: t.String({ description: 'The field, parameter or header; `body` for the whole body' }),
    detail: t.String({ description: 'What is wrong with it, for a person' }),
  },
  { title: 'FieldError' },
)
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

/** The most that a 422 names, so that it stays small whatever was sent. */
export const mostFieldErrors = 32

/**
 * What is wrong with each field, the first thing of each.
 *
 * @param whole what to call a value that is wrong as a whole
 */
export function fieldErrors(problems: Iterable<ValueError>, whole: string): FieldError[] {
  const byField = new Map<string, string>()
  for (const problem of problems) {
    for (const each of inDetail(problem)) {
      const field = nameField(each) || whole
      if (!byField.has(field)) byField.set(field, describeExpectation(each))
    }
    if (byField.size >= mostFieldErrors) break
  }
  return [...byField].slice(0, mostFieldErrors).map(([field, detail]) => ({ field, detail }))
}
