import { Elysia } from 'elysia'
import { pino, stdTimeFunctions, type Logger } from 'pino'
import pretty from 'pino-pretty'
import type { Config } from './config.ts'

/** A line of JSON per event on standard output, or of coloured text where that is a terminal. */
export function createLogger({ environment, logLevel }: Config): Logger {
  const options = { level: logLevel, base: null, timestamp: stdTimeFunctions.isoTime }
  if (environment === 'production' || !process.stdout.isTTY) return pino(options)
  return pino(options, pretty({ translateTime: 'SYS:HH:MM:ss', singleLine: true }))
}

/**
 * One line per request: method, route, status, milliseconds and request id. The route is the
 * pattern, not the path, so that nothing a user typed or was given reaches the log.
 */
export function requestLog(log: Logger) {
  const startedAt = new WeakMap<Request, number>()
  return new Elysia({ name: 'request-log' })
    .onRequest(function startClock({ request, set }) {
      startedAt.set(request, performance.now())
      // The cors plugin answers these itself, and no later hook sees them.
      if (request.method === 'OPTIONS')
        log.info({ method: 'OPTIONS', status: 204, request_id: set.headers['x-request-id'] })
    })
    .onAfterResponse({ as: 'global' }, function logRequest({ request, route, set }) {
      const started = startedAt.get(request) ?? performance.now()
      log.info({
        method: request.method,
        route: route ?? null,
        status: set.status,
        ms: Math.round((performance.now() - started) * 100) / 100,
        request_id: set.headers['x-request-id'],
      })
    })
}
