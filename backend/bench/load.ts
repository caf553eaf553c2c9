import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type BenchRequest = {
  method: string
  path: string
  headers: Record<string, string>
  body?: string | undefined
}

/** What a load came to. Times are milliseconds. */
export type Load = { requests: number; requestsPerSecond: number; p50: number; p99: number }

export type LoadOptions = { connections: number; seconds: number }

/**
 * Sends the requests in turn, over and over, on so many connections, each waiting for its answer.
 *
 * @throws Error if one of them fails, or is answered with 400 or more
 */
export async function sendLoad(
  requests: BenchRequest[],
  port: number,
  { connections, seconds }: LoadOptions,
): Promise<Load> {
  const file = join(tmpdir(), `requests-${port}.lua`)
  const texts = requests.map((request) => JSON.stringify(textOf(request)))
  await Bun.write(file, `return {\n${texts.join(',\n')}\n}`)
  const options = [`-c${connections}`, '-t1', `-d${seconds}s`, '--timeout=10s']
  const script = join(import.meta.dir, 'requests.lua')
  const wrk = Bun.spawn(['wrk', ...options, '-s', script, `http://127.0.0.1:${port}`], {
    env: { REQUESTS: file, PATH: process.env['PATH'] },
    stderr: 'inherit',
  })
  const output = await new Response(wrk.stdout).text()
  const line = output.trimEnd().split('\n').at(-1) ?? ''
  if ((await wrk.exited) !== 0 || !line.startsWith('{')) throw new Error(`wrk failed: ${output}`)
  const { failed, ...load }: Load & { failed: number } = JSON.parse(line)
  if (failed > 0) throw new Error(`${failed} of ${load.requests} requests failed`)
  return load
}

/** HTTP/1.1 as it goes over the wire. In ASCII, JSON's escapes are Lua's, too. */
function textOf({ method, path, headers, body = '' }: BenchRequest): string {
  const lines = Object.entries({
    host: 'localhost',
    ...headers,
    ...(body && { 'content-type': 'application/json', 'content-length': String(body.length) }),
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`
}
