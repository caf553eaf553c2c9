/**
 * What open event streams cost: `bun run bench:streams`. A server as production runs it, on a real
 * PostgreSQL; memory per stream, and the time from a write's answer to the last event received.
 */
import { connect } from 'node:net'
import { newUser } from '../tests/support/api.ts'
import { databaseUrl, startPostgres } from '../tests/support/postgres.ts'
import { startServer } from '../tests/support/server.ts'

const streamsOpened = 1_000
const writes = 20

async function residentMegabytes(pid: number): Promise<number> {
  const status = await Bun.file(`/proc/${pid}/status`).text()
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
}

/**
 * Opens a stream that only counts its events, so that this process is not what is measured. On a
 * socket: `fetch` has 256 connections at most.
 */
async function openCounting(port: number, token: string, onEvent: () => void): Promise<() => void> {
  const socket = connect(port, '127.0.0.1')
  const { promise: opened, resolve } = Promise.withResolvers<void>()
  socket.on('data', (bytes) => {
    if (bytes.includes('retry: ')) resolve()
    if (bytes.includes('data: ')) onEvent()
  })
  socket.write(
    `GET /api/tasks/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  )
  await opened
  return () => socket.destroy()
}

const rounded = (milliseconds: number) => Math.round(milliseconds * 10) / 10

async function measure(databaseAddress: string, usersCount: number) {
  const server = await startServer(databaseAddress, {
    MAX_STREAMS_PER_USER: String(streamsOpened),
  })
  const users = await Promise.all(Array.from({ length: usersCount }, newUser))
  for (const { token } of users)
    await server.request('POST', '/api/tasks', { token, json: { title: 'first' } })
  const before = await residentMegabytes(server.pid)
  let events = 0
  const waiting = { count: Infinity, resolve: () => {} }
  const count = () => {
    events += 1
    if (events >= waiting.count) waiting.resolve()
  }
  const closing: (() => void)[] = []
  for (let number = 0; number < streamsOpened; number += 1) {
    const { token } = users[number % usersCount]!
    closing.push(await openCounting(Number(new URL(server.origin).port), token, count))
  }
  const after = await residentMegabytes(server.pid)
  const times: number[] = []
  for (let write = 0; write < writes; write += 1) {
    const { token } = users[write % usersCount]!
    const { promise: received, resolve } = Promise.withResolvers<void>()
    waiting.count = events + streamsOpened / usersCount
    waiting.resolve = resolve
    await server.request('POST', '/api/tasks', { token, json: { title: `Task ${write}` } })
    const answered = performance.now()
    await received
    times.push(performance.now() - answered)
  }
  for (const close of closing) close()
  await server.end()
  const sorted = times.toSorted((a, b) => a - b)
  return {
    users: usersCount,
    streams: streamsOpened,
    'KB per stream': Math.round(((after - before) * 1024) / streamsOpened),
    'ms to last event, median': rounded(sorted[writes / 2]!),
    'ms to last event, worst': rounded(sorted.at(-1)!),
  }
}

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const results = [await measure(url, 100), await measure(url, 1)]
await postgres.close()
process.stdout.write(`${Bun.inspect.table(results)}\n`)
process.exit(0)
