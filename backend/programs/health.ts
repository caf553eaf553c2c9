import { readConfig } from '../config.ts'

const patience = 3_000 // ms

/** The server with these settings does not say that it is alive. */
export class NotHealthy extends Error {
  override readonly name = 'NotHealthy'
}

/**
 * Asks the server that has these settings. A probe of its own: the image holds no other program.
 *
 * @throws NotHealthy, ConfigError
 */
export async function health(): Promise<string> {
  const { host, port } = readConfig(process.env)
  const origin = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
  // The server is on this machine, so HTTP_PROXY must not apply.
  process.env['NO_PROXY'] = '*'
  try {
    const { status } = await fetch(`${origin}/health`, { signal: AbortSignal.timeout(patience) })
    if (status === 200) return ''
    throw new NotHealthy(`${origin}/health answers ${status}`)
  } catch (error) {
    if (error instanceof NotHealthy) throw error
    throw new NotHealthy(error instanceof Error ? error.message : String(error))
  }
}
