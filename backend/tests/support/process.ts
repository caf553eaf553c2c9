import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dir, '../../..')

export type Settings = Record<string, string>

/** An empty directory to run the program in, with no settings and no data of its own. */
export async function makeDirectory(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'todo-api-test-'))
  return { path, remove: async () => rm(path, { recursive: true, force: true }) }
}

/** Runs one of the program's files to its end, behind a command such as `setpriv` if need be. */
export async function run(
  file: string,
  cwd: string,
  settings: Settings = {},
  args: string[] = [],
  behind: string[] = [],
) {
  const child = spawn(file, cwd, settings, args, behind)
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  return { stdout, stderr, exitCode }
}

/**
 * Runs a program that is not ours to its end.
 *
 * @returns what it wrote to its standard output
 * @throws Error with all that it wrote, if it fails
 */
export async function runCommand(
  command: string[],
  cwd: string,
  settings: Settings = {},
): Promise<string> {
  const env = { ...process.env, ...settings }
  const child = Bun.spawn(command, { cwd, env, stdout: 'pipe', stderr: 'pipe' })
  const [output, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  if (code !== 0) throw new Error(`${command.join(' ')} exited ${code}: ${output}${errors}`)
  return output
}

/** Starts the server as a process of its own and waits until it answers. */
export async function startProcess(cwd: string, settings: Settings = {}) {
  const port = freePort()
  const child = spawn(
    'backend/main.ts',
    cwd,
    { PORT: String(port), HOST: '127.0.0.1', ...settings },
    [],
  )
  const origin = `http://127.0.0.1:${port}`
  const output = new Response(child.stdout).text()
  const errors = new Response(child.stderr).text()
  while (!(await answers(origin))) {
    if (child.exitCode !== null) throw new Error(`It exited ${child.exitCode}: ${await errors}`)
    await Bun.sleep(20)
  }
  return {
    origin,
    port,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    exited: child.exited,
    /** Stops it with SIGTERM, and gives the exit code. */
    async end(): Promise<number> {
      child.kill('SIGTERM')
      return child.exited
    },
    /** All it printed, once it has ended. */
    output,
    errors,
  }
}

export function spawn(
  file: string,
  cwd: string,
  settings: Settings,
  args: string[] = [],
  behind: string[] = [],
) {
  return Bun.spawn([...behind, process.execPath, resolve(root, file), ...args], {
    ...surroundings(cwd, settings),
    stdout: 'pipe',
    stderr: 'pipe',
  })
}

/** The server with its standard output on an open file of this process. */
export function spawnOnto(stdout: number, cwd: string, settings: Settings) {
  return Bun.spawn([process.execPath, resolve(root, 'backend/main.ts')], {
    ...surroundings(cwd, settings),
    stdout,
    stderr: 'inherit',
  })
}

/** The server on a terminal of its own. */
export function spawnOnTerminal(
  cwd: string,
  settings: Settings,
  onOutput: (bytes: Uint8Array) => void = () => {},
) {
  return Bun.spawn([process.execPath, resolve(root, 'backend/main.ts')], {
    ...surroundings(cwd, settings),
    terminal: { data: (_terminal, bytes) => onOutput(bytes) },
  })
}

function surroundings(cwd: string, settings: Settings) {
  const env = { PATH: process.env['PATH'] ?? '', HOME: cwd, ...settings }
  return { cwd, env, stdin: 'ignore' } as const
}

async function answers(origin: string): Promise<boolean> {
  return fetch(`${origin}/health`).then(
    ({ ok }) => ok,
    () => false,
  )
}

export function freePort(): number {
  const server = Bun.serve({ port: 0, fetch: async () => new Response() })
  const { port } = server
  void server.stop(true)
  return port!
}
