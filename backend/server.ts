import http from 'node:http'
import type { App } from './app.ts'

/** The port belongs to another process. */
export class PortTaken extends Error {
  override readonly name = 'PortTaken'
}

export type Server = {
  url: URL
  /** Stops accepting, waits for what runs, and cuts off what has not ended in time. */
  stop: () => Promise<void>
}

const longestHeaders = 256 * 1024 // bytes
const patience = 10_000 // ms

/** @throws PortTaken */
export function serve(app: App, { host, port }: { host: string; port: number }): Server {
  // Over the limit, 16 KiB by default, the runtime answers an empty 431 without CORS headers; up to
  // here a request reaches the app, and a token of 100 KB gets the 401 that it deserves.
  Object.assign(http, { maxHeaderSize: longestHeaders })
  try {
    app.listen({ hostname: host, port })
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')
      throw new PortTaken(
        `Port ${port} is taken by another program. Stop it, or choose another port: PORT=${port + 1}`,
      )
    throw error
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
