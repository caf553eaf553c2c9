/**
 * The program of the executable: `todo-api` serves, `todo-api health` asks whether it is alive, and
 * `todo-api restored` is for after a restore.
 */
import '../signals.ts' // before the rest is loaded
import { readConfig } from '../config.ts'

const patience = 3_000 // ms

/** Asks the server that has these settings. A probe of its own: the image holds no other program. */
async function isHealthy(): Promise<boolean> {
  try {
    const { host, port } = readConfig(process.env)
    const origin = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
    const { ok } = await fetch(`${origin}/health`, { signal: AbortSignal.timeout(patience) })
    return ok
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return false
  }
}

if (process.argv[2] === 'health') process.exit((await isHealthy()) ? 0 : 1)
if (process.argv[2] === 'restored') await import('./restored.ts')
else await import('../main.ts')
