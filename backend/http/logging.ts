import { Elysia } from 'elysia'
import { pino, stdTimeFunctions, type Logger } from 'pino'
import pretty from 'pino-pretty'
import type { Config } from '../config.ts'
import { codeOf } from '../errors.ts'

const longestWait = 20 // ms

/** A line of JSON per event on standard output, or of coloured text where that is a terminal. */
export function createLogger({ environment, logLevel }: Config): Logger {
  const options = { level: logLevel, base: null, timestamp: stdTimeFunctions.isoTime }
  if (environment === 'production' || !process.stdout.isTTY) return pino(options, standardOutput())
  return pino(options, pretty({ translateTime: 'SYS:HH:MM:ss', singleLine: true }))
}

/**
 * Writes the lines of some milliseconds at once: a system call for each costs more than making it.
 * None is lost when the process ends, unless it is killed.
 */
function standardOutput(): { write: (line: string) => void } {
  const destination = pino.destination({ dest: 1, minLength: 8 * 1024, sync: true })
  let timer: ReturnType<typeof setTimeout> | undefined
  function flush(): void {
    timer = undefined
    destination.flushSync()
  }
  process.on('exit', flush)
  return {
    write(line) {
      destination.write(line)
      timer ??= setTimeout(flush, longestWait)
    },
  }
}

type Begun = { at: number; id: string | number | undefined }

/**
 * One line per request: method, route, status, milliseconds and request id, and the code of one that
 * failed. The route is the pattern, not the path, so that nothing a user typed or was given reaches
 * the log. In development a 404 has its path, too: it is the developer who typed it.
 */
export function requestLog(log: Logger, { environment }: Pick<Config, 'environment'>) {
  const begun = new WeakMap<Request, Begun>()
  return new Elysia({ name: 'request-log' })
    .onRequest(function startClock({ request, set }) {
      const id = set.headers['x-request-id']
      begun.set(request, { at: performance.now(), id })
      // The cors plugin answers these itself, and no later hook sees them.
      if (request.method === 'OPTIONS') log.info({ method: 'OPTIONS', status: 204, request_id: id })
    })
    .onAfterResponse({ as: 'global' }, function logRequest(context) {
      const { request, route, path, set, responseValue } = context
      const { at, id } = begun.get(request)!
      log.info({
        method: request.method,
        route: route ?? null,
        ...(set.status === 404 && environment === 'development' && { path }),
        status: responseValue instanceof Response ? responseValue.status : set.status,
        code: codeOf(request),
        ms: Math.round((performance.now() - at) * 100) / 100,
        request_id: id,
      })
    })
}
