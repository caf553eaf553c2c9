import { openSync, closeSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../tests/support/daemon.ts'
import { eventually } from '../tests/support/eventually.ts'

export type ServerProgram = {
  name: string
  command: string[]
  /** Besides PATH and PORT. */
  env: Record<string, string>
  /** Where it runs. Default: the repository. */
  cwd?: string
}

export type RunningServer = Awaited<ReturnType<typeof startBenchServer>>

const repository = join(import.meta.dir, '../..')

/** Starts a server, its output going to a file as it does under a service manager. */
export async function startBenchServer(
  { name, command, env, cwd = repository }: ServerProgram,
  directory: string,
) {
  const port = await freePort()
  const output = openSync(join(directory, `${port}.log`), 'a')
  const began = performance.now()
  const child = Bun.spawn(command, {
    cwd,
    env: { PATH: process.env['PATH'], PORT: String(port), HOST: '127.0.0.1', ...env },
    stdin: 'ignore',
    stdout: output,
    stderr: output,
  })
  closeSync(output)
  const origin = `http://127.0.0.1:${port}`
  await eventually(`${name} answers`, async () => {
    if (child.exitCode !== null)
      throw new Error(`${name}: ${await Bun.file(join(directory, `${port}.log`)).text()}`)
    return fetch(`${origin}/health`).then(
      ({ ok }) => ok,
      () => undefined,
    )
  })
  return {
    name,
    pid: child.pid,
    port,
    origin,
    /** From its start to its first answer, in milliseconds. */
    startMilliseconds: performance.now() - began,
    async stop(): Promise<void> {
      child.kill('SIGTERM')
      await child.exited
    },
  }
}
