import { $ } from 'bun'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './eventually.ts'

const isRoot = process.getuid?.() === 0

/** Put before a command of PostgreSQL or PgBouncer: both refuse to run as root. */
export const asPostgres = isRoot
  ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups']
  : ['setpriv']

/** A new directory that belongs to whom PostgreSQL runs as. */
export async function temporaryDirectory(name: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), `${name}-`))
  await chmod(directory, 0o755)
  if (isRoot) await $`chown postgres ${directory}`
  return directory
}

/**
 * Starts a program and waits until it is ready. Its output goes to a file, as under a service manager. It
 * ends at the latest when this process does, whatever ends this one.
 *
 * @param behind what is put before the command; by default it runs as PostgreSQL does
 */
export async function startDaemon(
  command: string[],
  logFile: string,
  isReady: () => Promise<boolean>,
  {
    behind = asPostgres,
    ...surroundings
  }: { behind?: string[]; cwd?: string; env?: Record<string, string | undefined> } = {},
) {
  const log = openSync(logFile, 'a')
  const daemon = Bun.spawn([...behind, '--pdeathsig=QUIT', ...command], {
    ...surroundings,
    stdin: 'ignore',
    stdout: log,
    stderr: log,
  })
  closeSync(log)
  await eventually(`${command[0]} is ready`, async () => {
    if (daemon.exitCode !== null) throw new Error(readFileSync(logFile, 'utf8'))
    return isReady()
  })
  return daemon
}

export async function freePort(): Promise<number> {
  const server = createServer()
  const listening = Promise.withResolvers<void>()
  server.listen(0, 'localhost', listening.resolve)
  await listening.promise
  const address = server.address()
  const closed = Promise.withResolvers<void>()
  server.close(() => closed.resolve())
  await closed.promise
  if (address === null || typeof address === 'string') throw new Error('There is no free port')
  return address.port
}
