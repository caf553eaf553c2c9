import type { Logger } from 'pino'
import { failures, type ApiError, type FailureCode } from './failures.ts'
import { oncePerSecond } from './once-per-second.ts'

/** Tells the log what a client is not told, under the id that it is given. */
export type TellFailure = (failed: {
  requestId: string
  route: string | undefined
  /** What the client is told, and with a `reason` why. */
  failure: ApiError
  /** What was thrown. */
  cause: unknown
}) => void

const codes = new WeakMap<Request, FailureCode>()

export function rememberCode(request: Request, code: FailureCode): void {
  codes.set(request, code)
}

/** How a request failed, for the line that the log has of every request; `undefined` if it did not. */
export function codeOf(request: Request): FailureCode | undefined {
  return codes.get(request)
}

/**
 * Writes down why a request failed, with the id that its client was given. A reason, which strangers
 * can bring about as often as they like, is a line without a stack, at most once a second.
 */
export function createFailureLog(log: Logger): TellFailure {
  const isDue = oncePerSecond()
  return function tellFailure({ requestId, route, failure: { code, reason }, cause }) {
    const fields = { request_id: requestId, route, code }
    if (reason === undefined) log.error({ ...fields, err: cause }, 'request failed')
    else if (isDue(reason)) log[failures[code].status < 500 ? 'warn' : 'error'](fields, reason)
  }
}
