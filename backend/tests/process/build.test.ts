import { afterAll, beforeAll, expect, test } from 'bun:test'
import { SignJWT } from 'jose'
import { join } from 'node:path'
import { version } from '../../../package.json'
import { freePort, makeDirectory, run, type Settings } from '../support/process.ts'

const secret = 'a secret for the executable: 0123456789'

let directory: Awaited<ReturnType<typeof makeDirectory>>
let executable: string

beforeAll(async () => {
  directory = await makeDirectory()
  executable = join(directory.path, 'bin', 'todo-api')
  const { stderr, exitCode } = await run('backend/programs/build.ts', directory.path, {}, [
    executable,
  ])
  if (exitCode !== 0) throw new Error(stderr)
}, 60_000)
afterAll(async () => directory.remove())

function start(settings: Settings, args: string[] = []) {
  const child = Bun.spawn([executable, ...args], {
    cwd: directory.path,
    env: settings,
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  })
  return {
    exited: child.exited,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    stdout: new Response(child.stdout).text(),
    stderr: new Response(child.stderr).text(),
    hasEnded: () => child.exitCode !== null,
  }
}

test('the executable reports all that its settings lack', async () => {
  const server = start({ NODE_ENV: 'production' })
  expect(await server.exited).toBe(1)
  expect(await server.stderr).toBe('')
  expect(JSON.parse(await server.stdout)).toMatchObject({
    level: 60,
    msg: 'The settings have problems: DATABASE_URL is required in production: paste the connection string of your PostgreSQL; BETTER_AUTH_URL, BETTER_AUTH_SECRET or BETTER_AUTH_SESSIONS is required in production: without one of them, no token can be verified',
  })
})

test('the executable alone serves tasks, the docs and its own health, and reads no file of settings', async () => {
  await Bun.write(join(directory.path, '.env'), 'PORT=no port\n')
  await Bun.write(join(directory.path, 'bunfig.toml'), 'preload = ["./absent.ts"]\n')
  const port = freePort()
  const settings = { HOST: '0.0.0.0', PORT: String(port), BETTER_AUTH_SECRET: secret }
  expect(await start(settings, ['health']).exited).toBe(1)

  const server = start(settings)
  // Docker passes its client's proxy on to containers.
  const beyond = { ...settings, HTTP_PROXY: 'http://127.0.0.1:1', NO_PROXY: 'localhost' }
  while ((await start(beyond, ['health']).exited) !== 0)
    if (server.hasEnded()) throw new Error(await server.stderr)

  const origin = `http://localhost:${port}`
  const page = await (await fetch(`${origin}/docs`)).text()
  const assets = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path = '']) => path)
  expect(assets).toHaveLength(5)
  for (const path of assets) {
    const asset = await fetch(`${origin}${path}`)
    expect(asset.status).toBe(200)
    expect((await asset.bytes()).byteLength).toBeGreaterThan(100)
  }
  const document = (await (await fetch(`${origin}/docs/json`)).json()) as { paths: object }
  expect(Object.keys(document.paths)).toContain('/api/tasks')

  const token = await new SignJWT({ sub: 'alice' })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(secret))
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const created = await fetch(`${origin}/api/tasks`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ title: 'From one file' }),
  })
  expect(created.status).toBe(201)
  const listed = await fetch(`${origin}/api/tasks`, { headers })
  expect(await listed.json()).toEqual([await created.json()])
  expect((await fetch(`${origin}/api/tasks`)).status).toBe(401)

  const tooEarly = start(settings, ['restored'])
  expect(await tooEarly.exited).toBe(1)
  expect(await tooEarly.stderr).toContain('\nAnother server is using the database')

  server.kill('SIGTERM')
  expect(await server.exited).toBe(0)
  expect(await server.stdout).toContain('"route":"/api/tasks"')

  const served = start(settings, ['serve'])
  expect(await served.exited).toBe(2)
  expect(await served.stderr).toStartWith('There is no command serve.')
  expect(await start({}, ['--version']).stdout).toBe(`${version}\n`)
  const migrated = start(settings, ['migrate'])
  expect(await migrated.exited).toBe(0)
  expect(await migrated.stdout).toStartWith('The tables are up to date')
  const forgotten = start(settings, ['forget', 'alice'])
  expect(await forgotten.exited).toBe(0)
  expect(await forgotten.stdout).toContain('1 of tasks')

  const restored = start(settings, ['restored'])
  expect(await restored.exited).toBe(0)
  expect(await restored.stdout).toStartWith('The database is marked as restored')
})
