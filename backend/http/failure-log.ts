import type { Logger } from 'pino'
import { failures, type Report } from '../errors.ts'
import { oncePerSecond } from './once-per-second.ts'

/**
 * Writes down why a request failed, with the id that its client was given. A reason, which strangers
 * can bring about as often as they like, is a line without a stack, at most once a second.
 */
export function createReport(log: Logger): Report {
  const isDue = oncePerSecond()
  return function report({ requestId, route, failure: { code, reason }, cause }) {
    const fields = { request_id: requestId, route, code }
    if (reason === undefined) log.error({ ...fields, err: cause }, 'request failed')
    else if (isDue(reason)) log[failures[code].status < 500 ? 'warn' : 'error'](fields, reason)
  }
}
