import { $ } from 'bun'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { newUser, secret } from '../tests/support/api.ts'
import { eventually } from '../tests/support/eventually.ts'
import { freePort, makeDirectory, spawnOnto } from '../tests/support/process.ts'
import { createClient } from './client.ts'
import { startLoad } from './load.ts'
import type { Battery } from './main.ts'

const lines = { toFillAPipe: 6_000, some: 500 } // of 250 bytes; a pipe and the server's buffer hold fewer
const atATime = 50 // requests
const startsWithin = 60_000 // ms, a first start of the embedded database on a busy machine
const endsWithin = 3_000 // ms

const filling = { headers: { 'x-request-id': 'x'.repeat(128) } }

/** What becomes of the log, by a file descriptor for the server's standard output and what to do to it. */
type LogFault = (fifo: string) => {
  descriptor: number
  requests: number
  strike: () => void
  tidy: () => void
}

const faults: Record<string, LogFault> = {
  'nobody reads the log'(fifo) {
    const stalled = openSync(fifo, 'r+')
    return {
      descriptor: stalled,
      requests: lines.toFillAPipe,
      strike() {},
      tidy: () => closeSync(stalled),
    }
  },
  'the reader of the log is gone'(fifo) {
    const reader = openSync(fifo, 'r+')
    const writer = openSync(fifo, 'w')
    function strike(): void {
      closeSync(writer)
      closeSync(reader)
    }
    return { descriptor: writer, requests: lines.some, strike, tidy() {} }
  },
  'the disk of the log is full'() {
    const full = openSync('/dev/full', 'w')
    return { descriptor: full, requests: lines.some, strike() {}, tidy: () => closeSync(full) }
  },
}

/** Whatever becomes of the log, the load goes on, no request fails, and the server ends when it is told to. */
export async function logFaults(battery: Battery): Promise<void> {
  for (const [name, fault] of Object.entries(faults)) {
    await underLoad(battery, fault)
    battery.report.count('faults injected')
    battery.report.progress(name)
  }
}

async function underLoad({ report, seed }: Battery, fault: LogFault): Promise<void> {
  const directory = await makeDirectory()
  const fifo = join(directory.path, 'log')
  await $`mkfifo ${fifo}`.quiet()
  const { descriptor, requests, strike, tidy } = fault(fifo)
  const port = freePort()
  const origin = `http://127.0.0.1:${port}`
  const server = spawnOnto(descriptor, directory.path, {
    PORT: String(port),
    HOST: '127.0.0.1',
    BETTER_AUTH_SECRET: secret,
  })
  const isUp = async () =>
    fetch(`${origin}/health`).then(
      ({ ok }) => ok,
      () => false,
    )
  await eventually('the server answers', isUp, startsWithin)
  strike()
  const client = createClient(report)
  const load = startLoad({
    client,
    report,
    users: [await newUser()],
    servers: [() => origin],
    seed,
  })
  for (let asked = 0; asked < requests; asked += atATime)
    await Promise.all(
      Array.from({ length: atATime }, async () => client.ask(origin, 'GET', '/health', filling)),
    )
  await load.goesOn()
  await load.check()
  server.kill('SIGTERM')
  const exitCode = await Promise.race([server.exited, Bun.sleep(endsWithin).then(() => 'late')])
  if (exitCode !== 0) report.violation(`the server without a log ended ${exitCode}`)
  server.kill('SIGKILL')
  await server.exited
  tidy()
  await directory.remove()
}
