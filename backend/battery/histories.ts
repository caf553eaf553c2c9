import { newUser } from '../tests/support/api.ts'
import { createRandom, type Random } from '../tests/support/random.ts'
import { createClient, type Span } from './client.ts'
import { startLoad } from './load.ts'
import type { Battery } from './battery.ts'
import { startSeries } from './series.ts'
import { buildStand, type Stand } from './stand.ts'

const operations = { short: 2_000, long: 100_000 }
const pace = {
  writers: 3,
  keyed: false,
  betweenActs: 0, // ms
  betweenReads: 50, // ms
  prefixes: ['', '/compat/array'],
}
const usersAtOnce = 6
const betweenFaults = 1_500 // ms

const ever: Span = { from: -Infinity, until: Infinity }

/**
 * Several users, each with several clients, do as fast as they can what the API offers, at two servers, half
 * of the writes without a key and half of the users under a dialect, under faults that come at random.
 */
export async function histories({ postgres, report, seed, short }: Battery): Promise<void> {
  const stand = await buildStand(postgres)
  const client = createClient(report, stand.whyFailed)
  client.excuse({ unavailable: () => ever, cut: ever })
  const users = await Promise.all(Array.from({ length: usersAtOnce }, newUser))
  const { admin } = stand
  const [next, draw] = [createRandom(seed), createRandom(seed - 1)]
  // A write to one server may be read from the other.
  const either = () => stand.places[draw(stand.places.length)]!.origin()
  const load = startLoad({ client, report, users, servers: [either], seed, admin, pace })
  const series = startSeries({ client, report, servers: [either], seed, admin })
  const faults = faultsOf(stand, next, short)
  while (load.acts() < operations[short ? 'short' : 'long']) {
    await Bun.sleep(betweenFaults)
    // A fault may hit while the last one is not over yet, and fail for that.
    await faults[next(faults.length)]!().catch((error: Error) => report.progress(error.message))
    report.count('faults injected')
  }
  await load.check()
  await series.check()
  report.count('operations in histories', load.acts())
  await stand.close()
}

function faultsOf(stand: Stand, next: Random, short: boolean): (() => Promise<unknown>)[] {
  const { terminate, proxy, places, postgres, pgbouncer } = stand
  const mild = [
    terminate,
    async () => proxy.reset(),
    async () => proxy.halfClose(),
    async () => pgbouncer.restart(),
  ]
  if (short) return mild
  return [
    ...mild,
    async () => places[next(places.length)]!.restart('SIGKILL'),
    async () => {
      await postgres.kill()
      await postgres.start()
    },
  ]
}
