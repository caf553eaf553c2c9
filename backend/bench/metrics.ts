/**
 * What the metrics cost a request: `bun run bench:metrics`. The functions that a request calls, a
 * million times each, as nanoseconds a call; the best of five rounds, which others disturb least.
 */
import { createMetrics } from '../http/prometheus.ts'
import { traceIdOf } from '../http/trace.ts'

const times = 1_000_000
const rounds = 5

const metrics = createMetrics()
const plain = new Request('http://localhost/api/tasks')
const routes = ['/api/tasks', '/api/tasks/:id', '/api/tasks/:id/complete', '/api/tasks/changes']
const statuses = [200, 201, 304, 404, 412]

function measure(name: string, call: (index: number) => void): number {
  let best = Infinity
  for (let round = 0; round < rounds; round += 1) {
    const began = performance.now()
    for (let index = 0; index < times; index += 1) call(index)
    best = Math.min(best, ((performance.now() - began) / times) * 1e6)
  }
  process.stdout.write(`${name.padEnd(44)}${best.toFixed(0).padStart(6)} ns\n`)
  return best
}

const request = measure('a request is observed', (index) =>
  metrics.observeRequest('GET', routes[index % 4], statuses[index % 5]!, (index % 100) / 1000),
)
const statement = measure('a statement is observed', (index) =>
  metrics.observeStatement((index % 100) / 10_000, 1),
)
const untraced = measure('a request without traceparent is looked at', () => void traceIdOf(plain))
process.stdout.write(
  `\nA request with one statement: ${((request + statement + untraced) / 1000).toFixed(2)} µs\n`,
)
