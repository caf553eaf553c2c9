import { eventually } from '../tests/support/eventually.ts'
import { owner } from '../tests/support/postgres.ts'
import type { Weather } from '../tests/support/proxy.ts'
import { createClient, never, type Client } from './client.ts'
import { embeddedFaults } from './embedded-faults.ts'
import { startLoad } from './load.ts'
import type { Battery } from './battery.ts'
import { buildStand, type Stand } from './stand.ts'

/** What a fault is done to. */
type Scene = Stand & { client: Client; short: boolean }

type Fault = {
  name: string
  /** What clients must put up with until it is over, and for a second more. Default: 503. */
  excuses?: '503 by PgBouncer' | 'lost connections'
  /** When the server without a pooler must be back after it is over, in milliseconds. */
  backWithin?: number
  /** Ends at the moment when all is in order again. */
  inject: (scene: Scene) => Promise<void>
}

const usuallyBackWithin = 1_500 // ms; attempts to connect are at most a second apart
// PgBouncer refuses until it has logged in again, and hands out connections that have broken.
const poolerBackWithin = 6_000 // ms

const faults: Fault[] = [
  {
    name: 'kill -9 of the servers, one after the other',
    excuses: 'lost connections',
    async inject({ places }) {
      for (const place of places) await place.restart('SIGKILL')
    },
  },
  {
    name: 'SIGTERM with requests in flight',
    excuses: 'lost connections',
    async inject({ places, client, admin, postgres }) {
      // Only what is sent when the server has been told to stop may be refused.
      client.excuse({ unavailable: () => never, cut: never })
      const session = await admin.reserve()
      await session.unsafe('begin; lock table todo_api.tasks in access exclusive mode')
      await eventually('requests are in flight', async () => (await postgres.waiting()) > 0)
      const exitCode = await places[0].restart('SIGTERM', async () => {
        const from = performance.now() - 50
        client.excuse({ unavailable: () => never, cut: { from, until: Infinity } })
        await Bun.sleep(200)
        await session.unsafe('commit')
        session.release()
      })
      if (exitCode !== 0) throw new Error(`The server exited with ${exitCode}`)
    },
  },
  {
    name: 'PostgreSQL stopped, and started later',
    inject: lasting(
      1_000,
      8_000,
      async ({ postgres }) => postgres.stop(),
      async ({ postgres }) => postgres.start(),
    ),
  },
  {
    name: 'PostgreSQL restarted',
    async inject({ postgres }) {
      await postgres.stop()
      await postgres.start()
    },
  },
  {
    name: 'kill -9 of a session of PostgreSQL',
    async inject({ postgres, admin }) {
      await postgres.crash()
      await recovered(admin)
    },
  },
  {
    name: 'kill -9 of PostgreSQL',
    async inject({ postgres }) {
      await postgres.kill()
      await postgres.start()
    },
  },
  {
    name: 'all sessions of PostgreSQL terminated, again and again',
    inject: repeated(async ({ terminate }) => terminate()),
  },
  {
    name: 'PgBouncer restarted',
    excuses: '503 by PgBouncer',
    inject: async ({ pgbouncer }) => pgbouncer.restart(),
  },
  {
    name: 'PostgreSQL frozen',
    backWithin: 1_000,
    async inject({ postgres, short }) {
      const thaw = await postgres.freeze()
      await Bun.sleep(short ? 6_000 : 20_000)
      thaw()
    },
  },
  {
    name: 'the connection limit exhausted',
    inject: lasting(
      1_000,
      5_000,
      alterRole('connection limit 1'),
      alterRole('connection limit -1'),
    ),
  },
  {
    name: 'the password of the database changed, and back',
    inject: lasting(
      1_000,
      5_000,
      alterRole(`password 'another'`),
      alterRole(`password '${owner.password}'`),
    ),
  },
  {
    name: 'the disk of PostgreSQL full',
    inject: lasting(
      1_000,
      10_000,
      async ({ disk }) => disk!.fill(),
      async ({ disk }) => disk!.free(),
    ),
  },
  {
    name: 'a column added, and dropped',
    excuses: '503 by PgBouncer',
    inject: lasting(
      500,
      500,
      async ({ admin }) => admin`alter table todo_api.tasks add column note_of_the_battery text`,
      async ({ admin }) => admin`alter table todo_api.tasks drop column note_of_the_battery`,
    ),
  },
  {
    name: 'answers of the database delayed',
    inject: lasting(1_000, 10_000, weather('delayed'), weather('clear')),
  },
  {
    name: 'answers of the database trickling',
    inject: lasting(1_000, 10_000, weather('trickling'), weather('clear')),
  },
  {
    name: 'connections to the database reset',
    inject: repeated(async ({ proxy }) => proxy.reset()),
  },
  {
    name: 'connections to the database half-closed',
    inject: repeated(async ({ proxy }) => proxy.halfClose()),
  },
  {
    name: 'connections to the database gone silent',
    // A statement on a dead line is given up after 5 s, and the line itself a second later.
    backWithin: 7_000,
    inject: lasting(1_000, 20_000, weather('silent'), async (scene) => {
      await weather('clear')(scene)
      // By itself it keeps its dead lines, and finds them one by one.
      await scene.pgbouncer.restart()
    }),
  },
]

type Action = (scene: Scene) => Promise<unknown>

/** A fault that begins and, so many milliseconds later, ends. */
function lasting(inShort: number, otherwise: number, begin: Action, end: Action) {
  return async function inject(scene: Scene): Promise<void> {
    await begin(scene)
    await Bun.sleep(scene.short ? inShort : otherwise)
    await end(scene)
  }
}

/** A fault that comes ten times a second. */
function repeated(strike: Action) {
  return async function inject(scene: Scene): Promise<void> {
    for (let round = 0; round < (scene.short ? 5 : 30); round += 1) {
      await strike(scene)
      await Bun.sleep(100)
    }
  }
}

/** Ends the owner's sessions too, since the change holds for new ones alone. */
function alterRole(change: string): Action {
  return async function alter({ admin, terminate }) {
    await admin.unsafe(`alter role ${owner.name} ${change}`)
    await terminate()
  }
}

function weather(next: Weather): Action {
  return async ({ proxy }) => proxy.become(next)
}

async function recovered(admin: Stand['admin']): Promise<void> {
  await eventually('PostgreSQL has recovered', async () =>
    admin`select`.then(
      () => true,
      () => false,
    ),
  )
}

/** Faults under load: of servers and their database, and of the embedded database. */
export async function faultsUnderLoad(battery: Battery): Promise<void> {
  await databaseFaults(battery)
  await embeddedFaults(battery)
}

/** Faults, one after the other, under a steady load that is checked to the last row at the end. */
async function databaseFaults({ postgres, report, seed, short }: Battery): Promise<void> {
  const stand = await buildStand(postgres)
  report.count('faults injected')
  report.progress('two servers migrated an empty database at once')
  const [direct, pooled] = stand.places
  const client = createClient(report, stand.whyFailed)
  const load = startLoad({
    client,
    report,
    users: stand.users,
    servers: stand.places.map(({ origin }) => origin),
    seed,
    admin: stand.admin,
  })
  await load.goesOn()
  for (const { name, excuses, inject, backWithin = usuallyBackWithin } of faults) {
    if (stand.disk === undefined && name.includes('disk')) {
      report.progress(`${name}: left out, no file system can be mounted here`)
      continue
    }
    const excuse = (over: number) => {
      const unavailable = (origin: string) => {
        const isPooled = origin === pooled.origin()
        if (excuses === 'lost connections' || (excuses && !isPooled)) return never
        const within = isPooled ? Math.max(poolerBackWithin, backWithin) : backWithin
        return { from: -Infinity, until: over + within }
      }
      const isCut = excuses === 'lost connections'
      client.excuse({ unavailable, cut: isCut ? { from: -Infinity, until: over } : never })
    }
    excuse(Infinity)
    const began = performance.now()
    await inject({ ...stand, client, short }).catch((error: Error) =>
      report.violation(`${name}: ${error.message}`),
    )
    const over = performance.now()
    excuse(over)
    await Promise.all([load.goesOn(), Bun.sleep(short ? 300 : 5_000)])
    client.keepExcuse()
    report.count('faults injected')
    const lastUnavailable = client.lastUnavailable(direct.origin())
    report.progress(
      `${name}: ${seconds(over - began)}${
        lastUnavailable > over ? `, in service ${seconds(lastUnavailable - over)} later` : ''
      }`,
    )
  }
  await load.check()
  await stand.close()
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}
