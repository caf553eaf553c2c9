import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Metrics } from './metrics.ts'

/** Gives the metrics in Prometheus's text format, and its media type. */
export type Exposition = { text: () => Promise<string>; contentType: string }

/** OpenTelemetry's advice for `http.server.request.duration`, in seconds. */
const requestBuckets = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
/** A statement on a primary key takes less than a millisecond, and none more than its deadline. */
const statementBuckets = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
]
const requestsBuckets = [1, 2, 4, 8, 16, 32, 64]

/** RFC 9110 and RFC 5789. Anything else is somebody's invention, and would be a label of its own. */
const methods = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'CONNECT',
  'TRACE',
])

/**
 * Counts in this process, for Prometheus to read. Nothing of a user's is a label: routes are patterns,
 * and what no route or no known method took is one label for all.
 */
export function createMetrics(): Metrics & Exposition {
  const registry = new Registry()
  const registers = [registry]

  const requests = new Histogram({
    name: 'http_server_request_duration_seconds',
    help: 'Time from reading the headers of a request to its answer, or to the beginning of an event stream',
    labelNames: ['http_request_method', 'http_route', 'http_response_status_code'],
    buckets: requestBuckets,
    registers,
  })
  const statements = new Histogram({
    name: 'todo_database_statement_duration_seconds',
    help: 'Time of a statement, waiting for a connection included',
    buckets: statementBuckets,
    registers,
  })
  const requestsOfStatements = new Histogram({
    name: 'todo_database_statements_requests',
    help: 'How many requests a statement served',
    buckets: requestsBuckets,
    registers,
  })
  const unavailable = new Counter({
    name: 'todo_database_unavailable_total',
    help: 'How often the database could not be reached, or not in time',
    registers,
  })
  const purged = new Counter({
    name: 'todo_purged_total',
    help: 'Rows that were deleted because they were past their time',
    labelNames: ['kind'],
    registers,
  })
  for (const metric of ofProcess()) registry.registerMetric(metric)

  return {
    observeRequest(method, route, status, seconds) {
      requests.observe(
        {
          http_request_method: methods.has(method) ? method : '_OTHER',
          http_route: route ?? 'unmatched',
          http_response_status_code: status,
        },
        seconds,
      )
    },
    observeStatement(seconds, served) {
      statements.observe(seconds)
      requestsOfStatements.observe(served)
    },
    countUnavailable: (told) => unavailable.inc(told),
    countPurged: (kind, rows) => purged.inc({ kind }, rows),
    watchStreams(count) {
      registry.registerMetric(gauge('todo_event_streams', 'Event streams that are open', count))
    },
    text: async () => registry.metrics(),
    contentType: registry.contentType,
  }
}

/** Not prom-client's own metrics of the process: on Bun some are zero and others wrong. */
function ofProcess() {
  const startedAt = Date.now() / 1000 - process.uptime()
  const cpu = new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time of the process, user and system',
    registers: [],
    collect() {
      const { user, system } = process.cpuUsage()
      this.reset()
      this.inc((user + system) / 1e6)
    },
  })
  return [
    cpu,
    gauge('process_resident_memory_bytes', 'Resident memory in bytes', () =>
      process.memoryUsage.rss(),
    ),
    gauge('process_start_time_seconds', 'When the process began, in Unix time', () => startedAt),
  ]
}

/** A gauge that is measured when it is read. */
function gauge(name: string, help: string, measure: () => number) {
  return new Gauge({
    name,
    help,
    registers: [],
    collect() {
      this.set(measure())
    },
  })
}
