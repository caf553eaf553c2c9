import { newUser, secret } from '../tests/support/api.ts'
import { makeDirectory, startProcess } from '../tests/support/process.ts'
import { createClient } from './client.ts'
import { startLoad } from './load.ts'
import type { Battery } from './battery.ts'

const times = { short: 1, long: 15 }

/** The embedded database is killed with its server while it writes, and has all that it confirmed. */
export async function embeddedFaults({ report, seed, short }: Battery): Promise<void> {
  const directory = await makeDirectory()
  const start = async () =>
    startProcess(directory.path, { BETTER_AUTH_SECRET: secret, LOG_LEVEL: 'error' })
  let server = await start()
  const client = createClient(report)
  const users = [await newUser(), await newUser()]
  const load = startLoad({ client, report, users, servers: [() => server.origin], seed })
  await load.goesOn()
  for (let kill = 0; kill < times[short ? 'short' : 'long']; kill += 1) {
    client.excuseCuts()
    server.kill('SIGKILL')
    await server.exited
    server = await start()
    client.excuseCuts(performance.now())
    await load.goesOn()
    await Bun.sleep(short ? 500 : 1_000)
    report.count('faults injected')
  }
  report.progress('kill -9 of a server with the embedded database, while it writes')
  await load.check()
  server.kill('SIGTERM')
  await server.exited
  await directory.remove()
}
