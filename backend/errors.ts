import type { ValueError } from '@sinclair/typebox/errors'
import { Elysia, NotFoundError, ValidationError } from 'elysia'
import { AuthUnavailable } from './auth/tokens.ts'
import { DatabaseUnavailable } from './db/failures.ts'
import { QueueFull, WaitedForOneself, WaitedTooLong } from './db/waiting.ts'
import { rememberCode, type TellFailure } from './http/failure-log.ts'
import {
  ApiError,
  failures,
  fieldErrors,
  type FailureCode,
  type FieldError,
} from './http/failures.ts'
import { securityHeaders } from './http/security-headers.ts'

type ErrorBody = {
  detail: string
  code: FailureCode
  request_id: string
  errors?: FieldError[]
  current?: unknown
  results?: unknown
}

/**
 * The one place where a failure becomes a response. Use it before anything else: registered last,
 * Elysia asks it for unknown routes only.
 *
 * @param explainUnknownRoute what to answer if no route takes the request: 401, 404 or 405
 */
export function errors(
  tell: TellFailure,
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
      rememberCode(request, failure.code)
      // What a hook or route answers on purpose is no failure of ours.
      if ((status >= 500 && cause !== failure) || failure.reason !== undefined)
        tell({ requestId, route, failure, cause })
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
        ...(failure.results !== undefined && { results: JSON.parse(failure.results) }),
      }
    },
  )
}

/** For what fails outside of the app's hooks: in the framework itself, or by throwing `undefined`. */
export function answerLastResort(tell: TellFailure) {
  return function answerUncaught(error: unknown): Response {
    const requestId = crypto.randomUUID()
    tell({ requestId, route: undefined, failure: new ApiError('internal_error'), cause: error })
    const { status, detail } = failures.internal_error
    return Response.json(
      { detail, code: 'internal_error', request_id: requestId } satisfies ErrorBody,
      {
        status,
        headers: {
          ...securityHeaders,
          'content-type': 'application/json',
          vary: 'Origin',
          'x-request-id': requestId,
        },
      },
    )
  }
}

/** What a client is told when this was thrown. */
export function translate(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof DatabaseUnavailable || error instanceof WaitedTooLong)
    return new ApiError('database_unavailable')
  if (error instanceof QueueFull || error instanceof WaitedForOneself)
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
