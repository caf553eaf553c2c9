import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { chmod, readdir, stat } from 'node:fs/promises'
import { createConnection, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { scripts } from '../../../package.json'
import { openEvents } from '../support/events.ts'
import { eventually } from '../support/eventually.ts'
import { freePort, makeDirectory, run, spawn, startProcess } from '../support/process.ts'

let directory: Awaited<ReturnType<typeof makeDirectory>>
beforeAll(async () => {
  directory = await makeDirectory()
})
afterAll(async () => directory.remove())

async function token(user: string, settings = {}): Promise<string> {
  const { stdout } = await run('backend/programs/executable.ts', directory.path, settings, [
    'token',
    user,
  ])
  return stdout.trim()
}

const sigterm = 1n << 14n // its bit in /proc/PID/status

describe('a first start with nothing set', () => {
  test('serves, says where everything is, takes the token that the command prints, and keeps the data', async () => {
    const first = await startProcess(directory.path)
    const headers = {
      authorization: `Bearer ${await token('alice')}`,
      'content-type': 'application/json',
    }
    const created = await fetch(`${first.origin}/api/tasks`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ title: 'Outlives a restart' }),
    })
    expect(created.status).toBe(201)
    const task: unknown = await created.json()
    first.kill('SIGTERM')
    expect(await first.exited).toBe(0)
    const output = await first.output
    expect(output).toContain(`Todo API   http://127.0.0.1:${first.port}/api/tasks`)
    expect(output).toContain(`Docs       http://127.0.0.1:${first.port}/docs`)
    expect(output).toContain(`Data       ${join(directory.path, '.data')} (embedded`)
    expect(output).toContain(
      "Keys       none (set BETTER_AUTH_URL to take Better Auth's own tokens)",
    )
    expect(output).toContain(
      `HS256      on, with the secret in ${join(directory.path, '.data/secret')} (BETTER_AUTH_SECRET is not set)`,
    )
    expect(output).toContain('Origins    http://localhost:3000 (CORS_ORIGINS)')
    expect(output).toContain(
      `Token      bun run token (without Bun: npx -y bun@${Bun.version} run token)`,
    )

    const second = await startProcess(directory.path)
    const listed = await fetch(`${second.origin}/api/tasks`, { headers })
    expect(await listed.json()).toEqual([task])
    second.kill('SIGINT')
    expect(await second.exited).toBe(0)
  })

  test('says how it knows its users, and which pages may call', async () => {
    const server = await startProcess(directory.path, {
      BETTER_AUTH_URL: 'http://localhost:3000/api/auth',
      BETTER_AUTH_SECRET: '0123456789abcdefghijklmnopqrstuv',
      CORS_ORIGINS: 'http://localhost:3000,http://localhost:5173',
    })
    server.kill('SIGTERM')
    expect(await server.exited).toBe(0)
    const output = await server.output
    expect(output).toContain(
      'Keys       http://localhost:3000/api/auth/jwks, for tokens of http://localhost:3000\n',
    )
    expect(output).toContain('HS256      on, with BETTER_AUTH_SECRET\n')
    expect(output).toContain(
      'Origins    http://localhost:3000, http://localhost:5173 (CORS_ORIGINS)',
    )
    expect(output).not.toContain('0123456789abcdef')
  })

  test('what it keeps is only for its user', async () => {
    await token('anybody')
    for (const [file, mode] of [
      ['.data', 0o700],
      ['.data/secret', 0o600],
    ] as const)
      expect((await stat(join(directory.path, file))).mode & 0o777).toBe(mode)
  })

  test('killed while writing, it has lost nothing that it acknowledged', async () => {
    const headers = {
      authorization: `Bearer ${await token('writer')}`,
      'content-type': 'application/json',
    }
    const first = await startProcess(directory.path)
    const acknowledged: unknown[] = []
    const writing = (async () => {
      for (let number = 0; ; number += 1) {
        const answer = await fetch(`${first.origin}/api/tasks`, {
          method: 'POST',
          headers,
          body: JSON.stringify({ title: `Task ${number}` }),
        })
        acknowledged.push(await answer.json())
      }
    })().catch(() => {})
    while (acknowledged.length < 100) await Bun.sleep(5)
    first.kill('SIGKILL')
    await Promise.all([first.exited, writing])

    const second = await startProcess(directory.path)
    const listed = (await (
      await fetch(`${second.origin}/api/tasks`, { headers })
    ).json()) as unknown[]
    expect(listed.slice(0, acknowledged.length)).toEqual(acknowledged)
    second.kill('SIGTERM')
    await second.exited
  })
})

test('a second server on the same data gets one clear line, and the first goes on', async () => {
  const first = await startProcess(directory.path)
  const second = await run('backend/main.ts', directory.path, { PORT: '0' })
  expect(second.exitCode).toBe(1)
  expect(second.stderr).toBe(
    `Another server is using the database in ${join(directory.path, '.data')}. Stop it first, or set DATABASE_URL to a PostgreSQL that several servers can share.\n`,
  )
  expect((await fetch(`${first.origin}/ready`)).status).toBe(200)
  first.kill('SIGTERM')
  await first.exited
})

test('a port that is taken gets one clear line', async () => {
  const other = await makeDirectory()
  const first = await startProcess(directory.path)
  const second = await run('backend/main.ts', other.path, {
    PORT: String(first.port),
    HOST: '127.0.0.1',
  })
  expect(second.exitCode).toBe(1)
  expect(second.stderr).toBe(
    `Port ${first.port} is taken by another program. Stop it, or choose another port: PORT=${first.port + 1}\n`,
  )
  first.kill('SIGTERM')
  await first.exited
  await other.remove()
})

test('an address that is not this machine’s gets one line that names the setting, and the process ends', async () => {
  const { exitCode, stderr, stdout } = await run('backend/main.ts', directory.path, {
    HOST: '8.8.8.8',
    PORT: '0',
  })
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' })
  expect(stderr).toBe(
    'HOST: 8.8.8.8 is no address of this machine (EADDRNOTAVAIL). Leave HOST out to listen on all addresses, or set HOST=127.0.0.1 to be reached from this machine alone.\n',
  )
})

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
  'a process that waits for its database ends at %s within a second',
  async (signal) => {
    const nowhere = `postgres://u:p@127.0.0.1:${freePort()}/d`
    const child = spawn('backend/main.ts', directory.path, { PORT: '0', DATABASE_URL: nowhere })
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader()
    let output = ''
    while (!output.includes('does not answer yet')) output += (await reader.read()).value ?? ''
    const began = performance.now()
    child.kill(signal)
    expect(await child.exited).toBe(0)
    expect(performance.now() - began).toBeLessThan(1_000)
  },
)

test.each(['start', 'dev'] as const)(
  'bun run %s takes signals long before it has loaded the server',
  async (script) => {
    const program = /backend\/\S+/.exec(scripts[script])![0]
    const began = performance.now()
    const nowhere = `postgresql://user@127.0.0.1:${freePort()}/db`
    const child = spawn(program, directory.path, { PORT: '0', DATABASE_URL: nowhere })
    const takesSigterm = async () => {
      const status = await Bun.file(`/proc/${child.pid}/status`).text()
      return (BigInt(`0x${/SigCgt:\s*(\w+)/.exec(status)![1]}`) & sigterm) !== 0n
    }
    while (!(await takesSigterm())) if (child.exitCode !== null) throw new Error('It exited')
    const taken = performance.now() - began
    await child.stdout.getReader().read() // that the database does not answer
    const loaded = performance.now() - began
    child.kill('SIGTERM')
    expect(await child.exited).toBe(0)
    expect(taken).toBeLessThan(loaded / 2)
  },
)

test('a server that was killed leaves no temporary directory behind once it has started again', async () => {
  const temporary = await makeDirectory()
  const settings = { TMPDIR: temporary.path }
  const directories = async () =>
    (await readdir(temporary.path)).filter((name) => name.startsWith('todo-api-'))
  for (let round = 0; round < 3; round += 1) {
    const server = await startProcess(directory.path, settings)
    expect(await directories()).toHaveLength(1)
    server.kill('SIGKILL')
    await server.exited
  }
  const last = await startProcess(directory.path, settings)
  last.kill('SIGTERM')
  await last.exited
  expect(await directories()).toEqual([])
  await temporary.remove()
})

test.each(['Content-Length: 100', 'Transfer-Encoding: chunked'])(
  'a client that leaves amid a body with %s is logged as 499 and is no failure of ours',
  async (framing) => {
    const server = await startProcess(directory.path)
    const authorization = `Bearer ${await token('leaving')}`
    const socket = createConnection(server.port, '127.0.0.1')
    socket.write(
      `POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${authorization}\r\n` +
        `Content-Type: application/json\r\n${framing}\r\nX-Request-Id: left\r\n\r\n5\r\n{"tit`,
    )
    // This one is answered after the head of the other has been read.
    await fetch(`${server.origin}/api/tasks`, { headers: { authorization } })
    socket.destroy()
    await fetch(`${server.origin}/ready`)
    server.kill('SIGTERM')
    expect(await server.exited).toBe(0)
    const lines = (await server.output)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as { request_id?: string; level: number })
      .filter(({ request_id }) => request_id === 'left')
    expect(lines).toEqual([
      expect.objectContaining({ level: 30, method: 'POST', route: '/api/tasks', status: 499 }),
    ])
  },
)

describe('wrong settings are all reported at once, without their values:', () => {
  const short =
    'BETTER_AUTH_SECRET must have at least 32 characters; make one with: openssl rand -base64 32'
  const noPort = 'PORT must be a whole number from 0 to 65535'
  const wrong = { PORT: 'eighty', BETTER_AUTH_SECRET: 'hunter2' }

  test('as lines, to a person', async () => {
    const { exitCode, stdout, stderr } = await run('backend/main.ts', directory.path, wrong)
    expect([exitCode, stdout]).toEqual([1, ''])
    expect(stderr).toBe(`The settings have problems:\n  - ${short}\n  - ${noPort}\n`)
  })

  test.each([
    [
      {},
      'DATABASE_URL is required in production: paste the connection string of your PostgreSQL; ',
    ],
    [{ DATABASE_URL: 'postgresql://owner:a#b@db.example/todo' }, 'DATABASE_URL '],
  ])('in production as a line of the log, with %j', async (settings, beginning) => {
    const { exitCode, stdout, stderr } = await run('backend/main.ts', directory.path, {
      NODE_ENV: 'production',
      ...wrong,
      ...settings,
    })
    expect([exitCode, stderr]).toEqual([1, ''])
    expect(stdout.trimEnd()).not.toContain('\n')
    const { level, msg } = JSON.parse(stdout) as { level: number; msg: string }
    expect(level).toBe(60)
    expect(msg).toStartWith(`The settings have problems: ${beginning}`)
    expect(msg).toEndWith(`; ${short}; ${noPort}`)
    expect(msg).not.toContain('a#b')
  })
})

test.each(['SIGTERM', 'SIGHUP'] as const)(
  '%s lets the requests in flight finish',
  async (signal) => {
    const server = await startProcess(directory.path)
    const headers = {
      authorization: `Bearer ${await token('patient')}`,
      'content-type': 'application/json',
    }
    const body = JSON.stringify({ title: 'In flight' })
    let sent: () => void = () => {}
    const half = new Promise<void>((resolve) => {
      sent = resolve
    })
    // Its headers and half of its body are on the way when the signal comes, the rest after it.
    const slow = fetch(`${server.origin}/api/tasks`, {
      method: 'POST',
      headers,
      body: (async function* () {
        yield Buffer.from(body.slice(0, 5))
        await half
        yield Buffer.from(body.slice(5))
      })() as never,
    })
    await fetch(`${server.origin}/api/tasks`, { headers })
    server.kill(signal)
    while (
      await fetch(`${server.origin}/health`).then(
        () => true,
        () => false,
      )
    )
      await Bun.sleep(10)
    sent()
    expect((await slow).status).toBe(201)
    expect(await server.exited).toBe(0)
  },
)

test('a server that cannot close everything says so, and exits 1', async () => {
  const port = freePort()
  const temporary = await makeDirectory()
  // Root may delete everything; anybody else may not delete from a directory that is only read.
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
  const own = await makeDirectory()
  for (const { path } of [own, temporary]) await chmod(path, 0o777)
  const settings = { PORT: String(port), HOST: '127.0.0.1', TMPDIR: temporary.path }
  const asSomebody = process.getuid?.() === 0 ? nobody : []
  const child = spawn('backend/main.ts', own.path, settings, [], asSomebody)
  const answers = async () =>
    fetch(`http://127.0.0.1:${port}/health`).then(
      ({ ok }) => ok,
      () => child.exitCode !== null,
    )
  await eventually('it answers', answers, 100_000)
  await chmod(temporary.path, 0o555)
  child.kill('SIGTERM')
  expect(await child.exited).toBe(1)
  expect(await new Response(child.stdout).text()).toContain('"not everything could be closed"')
  await chmod(temporary.path, 0o755)
  await Promise.all([temporary.remove(), own.remove()])
}, 120_000)

test('with DRAIN_SECONDS, SIGTERM makes it unready first, and it serves on and closes each connection', async () => {
  const server = await startProcess(directory.path, { DRAIN_SECONDS: '2' })
  const headers = { authorization: `Bearer ${await token('drained')}` }
  const stream = await openEvents(`${server.origin}/api/tasks/events`, headers)
  const ready = async () => fetch(`${server.origin}/ready`)
  const kept = await ready()
  expect(kept.status).toBe(200)
  expect(kept.headers.get('connection')).toBeNull()

  server.kill('SIGTERM')
  while ((await ready()).status === 200) await Bun.sleep(10)
  const unready = await ready()
  expect(unready.status).toBe(503)
  expect(unready.headers.get('retry-after')).toBe('1')
  expect(await unready.json()).toMatchObject({ code: 'server_stopping' })
  const created = await fetch(`${server.origin}/api/tasks`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify({ title: 'Late' }),
  })
  const missing = await fetch(`${server.origin}/api/nothing`, { headers })
  const alive = await fetch(`${server.origin}/health`)
  expect([created, missing, alive].map(({ status }) => status)).toEqual([201, 404, 200])
  for (const answer of [unready, created, missing, alive])
    expect(answer.headers.get('connection')).toBe('close')
  await stream.received(1)
  await stream.ended
  expect(await server.exited).toBe(0)
  const output = await server.output
  expect(output).toContain('SIGTERM: unready, stopping in 2 s')
  expect(output).not.toContain('request failed')
})

test('a database that resets connections amid TLS does not take the server with it', async () => {
  let attempts = 0
  const resetting = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => {
      attempts += 1
      // It agrees to TLS, and then resets the connection at some point of the handshake.
      socket.write('S')
      if (attempts % 2 === 0) socket.resetAndDestroy()
      else socket.once('data', () => socket.resetAndDestroy())
    })
  })
  const { promise: listening, resolve } = Promise.withResolvers<void>()
  resetting.listen(0, '127.0.0.1', resolve)
  await listening
  const { port } = resetting.address() as AddressInfo
  const child = spawn('backend/main.ts', directory.path, {
    PORT: '0',
    DATABASE_URL: `postgres://u:p@127.0.0.1:${port}/d?sslmode=require`,
  })
  while (attempts < 4 && child.exitCode === null) await Bun.sleep(20)
  await Bun.sleep(100)
  expect(child.exitCode).toBeNull()
  child.kill('SIGKILL')
  await child.exited
  resetting.close()
})

describe('metrics', () => {
  test('have a port of their own that serves nothing else', async () => {
    const port = freePort()
    const server = await startProcess(directory.path, { METRICS_PORT: String(port) })
    const origin = `http://127.0.0.1:${port}`
    const answer = await fetch(`${origin}/metrics`)
    expect([answer.status, answer.headers.get('content-type')]).toEqual([
      200,
      'text/plain; version=0.0.4; charset=utf-8',
    ])
    await answer.text()
    const text = await eventually('what was purged at the start is told', async () => {
      const told = await (await fetch(`${origin}/metrics`)).text()
      return told.includes('todo_purged_total{kind="tickets"} 0\n') ? told : undefined
    })
    expect(
      Number(/^todo_database_statement_duration_seconds_count (\d+)$/m.exec(text)?.[1]),
    ).toBeGreaterThan(0)
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/metrics/'],
      ['POST', '/metrics'],
      ['GET', '/health'],
    ] as const)
      expect((await fetch(origin + path, { method })).status).toBe(404)
    expect((await fetch(`${server.origin}/metrics`)).status).toBe(404)
    expect(await server.end()).toBe(0)
    expect(await server.output).toContain(`"url":"${origin}/metrics"`)
  })

  test('that cannot be given there keep the server from starting, and the setting is named', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    const { port } = taken.address() as AddressInfo
    const settings = { HOST: '127.0.0.1', PORT: '0', METRICS_PORT: String(port) }
    const second = await run('backend/main.ts', directory.path, settings)
    expect([second.exitCode, second.stderr]).toEqual([
      1,
      `Port ${port} is taken by another program. Stop it, or choose another port: METRICS_PORT=${port + 1}\n`,
    ])
    const elsewhere = { ...settings, METRICS_HOST: '8.8.8.8' }
    expect((await run('backend/main.ts', directory.path, elsewhere)).stderr).toBe(
      'METRICS_HOST: 8.8.8.8 is no address of this machine (EADDRNOTAVAIL). Set METRICS_HOST=0.0.0.0 to listen on all addresses, or set METRICS_HOST=127.0.0.1 to be reached from this machine alone.\n',
    )
    taken.close()
  })
})

describe('the token command', () => {
  test('prints a token and nothing else, for whom it is asked', async () => {
    const { stdout, stderr, exitCode } = await run(
      'backend/programs/executable.ts',
      directory.path,
      {},
      ['token', 'bob'],
    )
    expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/)
    const payload: unknown = JSON.parse(Buffer.from(stdout.split('.')[1]!, 'base64url').toString())
    expect(payload).toMatchObject({ sub: 'bob' })
  })

  test('does nothing in production', async () => {
    const { stdout, stderr, exitCode } = await run(
      'backend/programs/executable.ts',
      directory.path,
      { NODE_ENV: 'production' }, // and nothing else of what a server needs there
      ['token'],
    )
    expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 1 })
    expect(stderr).toBe(
      'The settings have problems:\n  - NODE_ENV is production: there, tokens come from your auth server only\n',
    )
  })
})
