import http from 'node:http'
import type { App } from './app.ts'
import type { Exposition } from './http/prometheus.ts'

/** The settings of a host and a port are not a place where this process can listen. Says which, and why. */
export class CannotListen extends Error {
  override readonly name = 'CannotListen'
}

export type Server = {
  url: URL
  /** Stops accepting, waits for what runs, and cuts off what has not ended in time. */
  stop: () => Promise<void>
}

const longestHeaders = 256 * 1024 // bytes
const patience = 10_000 // ms

/** @throws CannotListen */
export function serve(app: App, { host, port }: { host: string; port: number }): Server {
  // Over the limit, 16 KiB by default, the runtime answers an empty 431 without CORS headers; up to
  // here a request reaches the app, and a token of 100 KB gets the 401 that it deserves.
  Object.assign(http, { maxHeaderSize: longestHeaders })
  try {
    app.listen({ hostname: host, port })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
    throw new CannotListen(explain(String(error.code), host, port, ''))
  }
  const server = app.server!
  return {
    url: server.url,
    async stop() {
      const { promise: late, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, patience)
      await Promise.race([server.stop(), late])
      clearTimeout(timer)
      await server.stop(true)
    },
  }
}

/**
 * Gives the metrics to whoever can reach this place, at `/metrics` and on a port of its own: what is
 * open to all clients should not tell them how the server does.
 *
 * @throws CannotListen
 */
export function serveMetrics(
  { text, contentType }: Exposition,
  { host, port }: { host: string; port: number },
): Pick<Server, 'url' | 'stop'> {
  async function answer({ method, url }: Request): Promise<Response> {
    const isAsked = ['GET', 'HEAD'].includes(method) && new URL(url).pathname === '/metrics'
    if (!isAsked) return new Response('The metrics are at GET /metrics\n', { status: 404 })
    return new Response(await text(), { headers: { 'content-type': contentType } })
  }
  try {
    const server = Bun.serve({
      hostname: host,
      port,
      reusePort: false,
      development: false,
      fetch: answer,
    })
    return { url: server.url, stop: async () => server.stop(true) }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
    throw new CannotListen(explain(String(error.code), host, port, 'METRICS_'))
  }
}

/** @param prefix of the settings' names */
function explain(code: string, host: string, port: number, prefix: string): string {
  if (code === 'EADDRINUSE')
    return `Port ${port} is taken by another program. Stop it, or choose another port: ${prefix}PORT=${port === 65_535 ? 8_000 : port + 1}`
  if (code === 'EACCES')
    return `${prefix}PORT: this user may not listen on port ${port}. Choose one from 1024 on, such as ${prefix}PORT=8000, or give the program the right to (CAP_NET_BIND_SERVICE).`
  const all = prefix === '' ? 'Leave HOST out' : `Set ${prefix}HOST=0.0.0.0`
  return `${prefix}HOST: ${host} is no address of this machine (${code}). ${all} to listen on all addresses, or set ${prefix}HOST=127.0.0.1 to be reached from this machine alone.`
}
