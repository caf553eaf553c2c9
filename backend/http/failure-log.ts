import type { Logger } from 'pino'
import { failures, type ApiError, type FailureCode } from './failures.ts'
import { oncePerSecond } from './once-per-second.ts'
import { createRepeats, kindOf } from './repeats.ts'

/** Logs what the client is not told, under the id that the client is given. */
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
 * Logs why a request failed, under the id that its client was given. Strangers can cause a failure that has
 * a reason as often as they like, so it is logged without a stack, at most once a second. While the
 * database is away all requests fail alike: the first of them is logged, and the number of the others once
 * a minute.
 */
export function createFailureLog(log: Logger): TellFailure {
  const isDue = oncePerSecond()
  const sayRepeats = createRepeats()
  return function tellFailure({ requestId, route, failure: { code, reason }, cause }) {
    const fields = { request_id: requestId, route, code }
    const { status } = failures[code]
    const kind = kindOf(cause)
    const tellCause = () => log.error({ ...fields, err: cause }, 'request failed')
    const tellCount = (count: number) =>
      log.error({ code, kind, count }, 'more requests failed in the same way')
    if (reason !== undefined) {
      if (isDue(reason)) log[status < 500 ? 'warn' : 'error'](fields, reason)
    } else if (status === 503) sayRepeats(`${code} ${kind}`, tellCause, tellCount)
    else tellCause()
  }
}

/** Logs why event streams have to wait, in the same way, since each of them reports it. */
export function createTroubleLog(log: Logger): (err: unknown) => void {
  const sayRepeats = createRepeats()
  return function tellTrouble(err) {
    const what = 'the event streams wait for the database'
    const kind = kindOf(err)
    sayRepeats(
      kind,
      () => log.warn({ err }, what),
      (count) => log.warn({ kind, count }, what),
    )
  }
}
