import { $ } from 'bun'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { closeSync, openSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { secret, tokenFor } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { freePort, makeDirectory, spawnOnTerminal, spawnOnto } from '../support/process.ts'

const mebibyte = 1024 * 1024
const endsWithin = 3_000 // ms

let directory: Awaited<ReturnType<typeof makeDirectory>>
let fifo: string
beforeAll(async () => {
  directory = await makeDirectory()
  fifo = join(directory.path, 'log')
  await $`mkfifo ${fifo}`.quiet()
})
afterAll(async () => directory.remove())

let running: Bun.Subprocess | undefined
afterEach(async () => {
  running?.kill('SIGKILL')
  await running?.exited
})

/** Starts a server whose log goes to a file descriptor of this process or to a new terminal. */
async function start(stdout: number | 'terminal', onOutput?: (bytes: Uint8Array) => void) {
  const port = freePort()
  const settings = {
    PORT: String(port),
    HOST: '127.0.0.1',
    TERM: 'xterm',
    BETTER_AUTH_SECRET: secret,
  }
  const child =
    stdout === 'terminal'
      ? spawnOnTerminal(directory.path, settings, onOutput)
      : spawnOnto(stdout, directory.path, settings)
  running = child
  const health = async () =>
    fetch(`http://127.0.0.1:${port}/health`, {
      headers: { 'x-request-id': 'x'.repeat(128) },
      signal: AbortSignal.timeout(2_000),
    }).then(({ status }) => status)
  await eventually('it answers', async () => (await health().catch(() => 0)) === 200)
  return {
    origin: `http://127.0.0.1:${port}`,
    terminal: child.terminal,
    /** Sends this many requests, so that they are logged, and gives the statuses of the answers. */
    async ask(times: number): Promise<Set<number>> {
      const statuses = new Set<number>()
      for (let asked = 0; asked < times; asked += 50)
        for (const status of await Promise.all(Array.from({ length: 50 }, health)))
          statuses.add(status)
      return statuses
    },
    /** Creates a task and completes it, and gives the statuses of the answers. */
    async write(): Promise<number[]> {
      const headers = {
        authorization: `Bearer ${await tokenFor('somebody')}`,
        'content-type': 'application/json',
      }
      const tasks = `http://127.0.0.1:${port}/api/tasks`
      const body = JSON.stringify({ title: 'Not logged' })
      const created = await fetch(tasks, { method: 'POST', headers, body })
      const { id } = (await created.json()) as { id: number }
      const completed = await fetch(`${tasks}/${id}/complete`, { method: 'PATCH', headers })
      return [created.status, completed.status]
    },
    /** Sends SIGTERM and gives the exit code, or `late`. */
    async end() {
      child.kill('SIGTERM')
      const exitCode = await Promise.race([child.exited, Bun.sleep(endsWithin).then(() => 'late')])
      return exitCode
    },
  }
}

const enoughToFillIt = 6_000 // lines of 250 bytes: more than a pipe and the buffer hold

describe('requests are answered, and SIGTERM ends the process, if', () => {
  test('the disk of the log is full', async () => {
    const full = openSync('/dev/full', 'w')
    const server = await start(full)
    expect(await server.ask(500)).toEqual(new Set([200]))
    expect(await server.write()).toEqual([201, 200])
    expect(await server.end()).toBe(0)
    closeSync(full)
  })

  test('nobody reads the log', async () => {
    const stalled = openSync(fifo, 'r+')
    const server = await start(stalled)
    expect(await server.ask(enoughToFillIt)).toEqual(new Set([200]))
    expect(await server.write()).toEqual([201, 200])
    expect(await server.end()).toBe(0)
    closeSync(stalled)
  })

  test('the reader of the log is gone', async () => {
    const reader = openSync(fifo, 'r+')
    const writer = openSync(fifo, 'w')
    const server = await start(writer)
    closeSync(writer)
    closeSync(reader)
    expect(await server.ask(500)).toEqual(new Set([200]))
    expect(await server.write()).toEqual([201, 200])
    expect(await server.end()).toBe(0)
  })

  test('the terminal has been stopped with Ctrl-S', async () => {
    const server = await start('terminal')
    server.terminal!.write('\x13')
    expect(await server.ask(500)).toEqual(new Set([200]))
    expect(await server.write()).toEqual([201, 200])
    expect(await server.end()).toBe(0)
    server.terminal!.close()
  })
})

test('on a terminal, a request is a line that can be read at a glance', async () => {
  const printed = { text: '' }
  const server = await start('terminal', (bytes) => (printed.text += bytes.toString()))
  await server.ask(50)
  await fetch(server.origin + '/api/tasks')
  await fetch(server.origin + '/api/todos', { method: 'OPTIONS' })
  const lines = () => Bun.stripANSI(printed.text).split('\r\n')
  for (const line of [
    /^\[[\d:]+\] INFO: GET \/health 200 [\d.]+ ms$/,
    /^\[[\d:]+\] INFO: GET \/api\/tasks 401 [\d.]+ ms token_missing$/,
    /^\[[\d:]+\] INFO: OPTIONS \/api\/todos 204$/,
  ])
    await eventually(String(line), async () => lines().some((text) => line.test(text)))
  expect(printed.text).not.toContain('"ms"')
  expect(await server.end()).toBe(0)
  server.terminal!.close()
})

test('lines that found no room are counted, and the count is logged when there is a reader again', async () => {
  const both = openSync(fifo, 'r+')
  const server = await start(both)
  await server.ask(enoughToFillIt)
  const reader = await open(fifo, 'r')
  closeSync(both)
  let log = ''
  const reading = (async () => {
    for await (const piece of reader.createReadStream()) log += String(piece)
  })()
  await eventually('the count is logged', async () => log.includes('"dropped"'))
  expect(await server.end()).toBe(0)
  await reading
  const lines = log
    .trimEnd()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { level: number; dropped?: number; route?: string })
  const dropped = lines.reduce((sum, line) => sum + (line.dropped ?? 0), 0)
  expect(dropped).toBeGreaterThan(0)
  expect(lines.find((line) => line.dropped)).toMatchObject({
    level: 50,
    msg: 'lines of this log were dropped: nobody was reading standard output',
  })
  const logged = lines.filter(({ route }) => route === '/health').length
  // The first requests are those of the test that ask whether it has started.
  expect(logged + dropped).toBeGreaterThanOrEqual(enoughToFillIt)
  expect(log.length).toBeLessThan(1.5 * mebibyte)
})
