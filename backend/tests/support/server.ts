import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { secret, type Answer, type RequestOptions } from './api.ts'
import { eventually } from './eventually.ts'

export const repository = join(import.meta.dir, '../../..')

type LogLine = {
  level?: number
  time?: string
  msg?: string
  url?: string
  request_id?: string
  err?: { message: string }
}

/** A server ends with the process that started it, whatever ends that. */
const asChild = ['setpriv', '--pdeathsig=KILL']

/**
 * Starts a server as production does, a process of its own, and does not wait until it listens.
 *
 * @param program where its files are, if they are not those of this version
 */
export function spawnServer(
  databaseUrl: string,
  settings: Record<string, string> = {},
  program = repository,
) {
  const running = Bun.spawn([...asChild, process.execPath, 'backend/main.ts'], {
    cwd: program,
    env: {
      NODE_ENV: 'production',
      HOST: '127.0.0.1',
      PORT: '0',
      DRAIN_SECONDS: '0',
      DATABASE_URL: databaseUrl,
      BETTER_AUTH_SECRET: secret,
      RATE_LIMIT_PER_USER: 'off',
      RATE_LIMIT_PER_ADDRESS: 'off',
      ...settings,
    },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
  })
  const lines: LogLine[] = []
  const { promise: allRead, resolve: endOfLog } = Promise.withResolvers<void>()
  createInterface(Readable.fromWeb(running.stdout))
    .on('line', (line) => lines.push(JSON.parse(line) as LogLine))
    .on('close', endOfLog)

  /** Waits for a line of the server's log. */
  async function logged(message: string | RegExp): Promise<LogLine> {
    return eventually(`the server logs ${message}`, async () => {
      if (running.exitCode !== null) throw new Error(`The server exited: ${running.exitCode}`)
      return lines.find(({ msg = '' }) => msg.match(message))
    })
  }

  return {
    pid: running.pid,
    logged,
    /** What has been logged so far of one kind. */
    linesWith: (message: RegExp) => lines.filter(({ msg = '' }) => message.test(msg)),
    /** All that a server logged that ends by itself. */
    async wholeLog(): Promise<LogLine[]> {
      await allRead
      return lines
    },
    /** What the server's log says of a request that failed. */
    whyFailed: (requestId: string) =>
      lines.find(({ request_id, err }) => err && request_id === requestId)?.err?.message,
    /** Sends a signal and gives the exit code. */
    async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
      running.kill(signal)
      return running.exited
    },
    signal: (signal: NodeJS.Signals) => running.kill(signal),
    exited: running.exited,
  }
}

/** Starts a server as production does and waits until it listens. */
export async function startServer(
  databaseUrl: string,
  settings: Record<string, string> = {},
  program = repository,
) {
  const server = spawnServer(databaseUrl, settings, program)
  const { url } = await server.logged('listening')
  const { origin } = new URL(url ?? '')
  return { ...server, origin, request: requestTo(origin) }
}

export function requestTo(origin: string) {
  return async function request<Body = unknown>(
    method: string,
    path: string,
    { token = '', json, headers = {} }: RequestOptions = {},
  ): Promise<Answer<Body>> {
    const response = await fetch(origin + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    })
    const text = await response.text()
    const isJson =
      response.headers.get('content-type')?.startsWith('application/json') && text !== ''
    const body = (isJson ? JSON.parse(text) : undefined) as Body
    return { status: response.status, headers: response.headers, body, text }
  }
}
