import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, startDaemon, temporaryDirectory } from './daemon.ts'
import { repository } from './server.ts'

const documented = join(repository, 'docs/haproxy.cfg')

/**
 * Starts HAProxy as docs/haproxy.cfg has it, which is what people copy, on other ports.
 *
 * @param serverPorts of the four servers, of which none needs to run yet
 */
export async function startHaproxy(serverPorts: number[]) {
  const directory = await temporaryDirectory('haproxy')
  const log = join(directory, 'log')
  const file = join(directory, 'haproxy.cfg')
  const port = await freePort()
  let settings = (await Bun.file(documented).text()).replace('bind :8080', `bind 127.0.0.1:${port}`)
  for (const [index, serverPort] of serverPorts.entries())
    settings = settings.replaceAll(`127.0.0.1:${8001 + index}`, `127.0.0.1:${serverPort}`)
  await Bun.write(file, settings)
  const origin = `http://127.0.0.1:${port}`
  const balancer = await startDaemon(['haproxy', '-db', '-f', file], log, async () =>
    fetch(origin).then(
      () => true,
      () => false,
    ),
  )
  return {
    origin,
    port,
    /** What it has logged so far: servers that come and go. */
    log: async () => Bun.file(log).text(),
    async close(): Promise<void> {
      balancer.kill('SIGTERM')
      await balancer.exited
      await rm(directory, { recursive: true, force: true })
    },
  }
}
