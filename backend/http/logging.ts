import { isatty } from 'node:tty'
import { Elysia } from 'elysia'
import { pino, stdTimeFunctions, type LevelWithSilent, type Logger } from 'pino'
import { prettyFactory } from 'pino-pretty'
import { codeOf } from './failure-log.ts'
import type { Metrics } from './metrics.ts'
import type { Output } from './output.ts'
import { traceIdOf } from './trace.ts'
import { pathOf } from './urls.ts'

/** The settings that the log depends on. */
export type LogSettings = { environment: string; logLevel: LevelWithSilent }

/** A line of JSON per event, or of coloured text if standard output is a terminal. */
export function createLogger({ environment, logLevel }: LogSettings, output: Output): Logger {
  const options = { level: logLevel, base: null, timestamp: stdTimeFunctions.isoTime }
  if (environment === 'production' || !isatty(1)) return pino(options, output)
  const layout = { translateTime: 'SYS:HH:MM:ss', singleLine: true }
  const readable = prettyFactory(layout)
  const readableRequest = prettyFactory({ ...layout, hideObject: true })
  return pino(options, {
    write(line: string) {
      const entry: object = JSON.parse(line)
      output.write(
        isOfRequest(entry)
          ? // Without an object to show after it, pino-pretty ends no line.
            `${readableRequest({ ...entry, msg: sayRequest(entry) }).trimEnd()}\n`
          : readable(entry),
      )
    },
  })
}

type RequestLine = {
  method: string
  route?: string | null
  path?: string
  status: number
  ms?: number
  code?: string
}

function isOfRequest(entry: object): entry is RequestLine {
  return 'method' in entry && 'status' in entry
}

/** `GET /api/tasks 200 3 ms`, for somebody who watches a terminal. */
function sayRequest({ method, route, path, status, ms, code }: RequestLine): string {
  const time = ms === undefined ? undefined : `${ms < 1 ? ms : Math.round(ms)} ms`
  return [method, path ?? route, status, time, code].filter(Boolean).join(' ')
}

const sentPaths = new WeakMap<Request, string>()

/** Keeps the path that was sent, for a request whose URL is about to be rewritten. */
export function rememberSentPath(request: Request): void {
  sentPaths.set(request, pathOf(request.url))
}

type Begun = { at: number; id: string | number | undefined }

/**
 * One line per request: method, route, status, milliseconds and request id, and the code of one that
 * failed. The route is the pattern, not the path, so that nothing a user typed or was given reaches
 * the log. In development a 404 and an OPTIONS have their path, too: it is the developer who typed it.
 * The same goes to the metrics.
 */
export function requestLog(
  log: Logger,
  { environment, metrics }: Pick<LogSettings, 'environment'> & { metrics: Metrics },
) {
  const begun = new WeakMap<Request, Begun>()
  return new Elysia({ name: 'request-log' })
    .onRequest(function startClock({ request, set }) {
      const id = set.headers['x-request-id']
      begun.set(request, { at: performance.now(), id })
      // The cors plugin answers these itself, and no later hook sees them.
      if (request.method !== 'OPTIONS') return
      log.info({
        method: 'OPTIONS',
        ...(environment === 'development' && {
          path: sentPaths.get(request) ?? pathOf(request.url),
        }),
        status: 204,
        request_id: id,
        trace_id: traceIdOf(request),
      })
      metrics.observeRequest('OPTIONS', undefined, 204, 0)
    })
    .onAfterResponse({ as: 'global' }, function logRequest(context) {
      const { request, route, path, set, responseValue } = context
      const { at, id } = begun.get(request)!
      const status = responseValue instanceof Response ? responseValue.status : set.status
      const ms = performance.now() - at
      log.info({
        method: request.method,
        route: route ?? null,
        ...(set.status === 404 &&
          environment === 'development' && { path: sentPaths.get(request) ?? path }),
        status,
        code: codeOf(request),
        ms: Math.round(ms * 100) / 100,
        request_id: id,
        trace_id: traceIdOf(request),
      })
      metrics.observeRequest(request.method, route, Number(status), ms / 1000)
    })
}
