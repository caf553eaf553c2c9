import { join } from 'node:path'
import { parseDatabaseUrl } from '../db/address.ts'
import { connect } from '../db/connect.ts'
import { migrate } from '../db/migrate.ts'
import { databaseUrl, startPostgres } from '../tests/support/postgres.ts'
import { tasksPerUser, usersCount } from './work.ts'

export type BenchDatabase = Awaited<ReturnType<typeof startBenchDatabase>>

/** `ours` has this project's tables, `plain` the one table that its peers need. */
export type DatabaseName = 'ours' | 'plain'

const columns = 'user_id, created_at, title, description, completed, priority, tags, due_date'
const rows = `
  select
    'user-' || who, timestamptz '2026-01-01' + number * interval '1 hour', 'Task ' || number || ' of user ' || who,
    'What is to be done, in a sentence of a usual length, for the user ' || who, number % 3 = 0,
    (array['none', 'low', 'medium', 'high'])[number % 4 + 1]%PRIORITY%, array['home', 'errand'],
    date '2030-01-01' + number
  from generate_series(1, ${usersCount}) who, generate_series(1, ${tasksPerUser}) number
  order by who, number`

/**
 * Starts a PostgreSQL with the same tasks in two databases. It does not wait for the disk, so that
 * the servers are compared and not the disk with itself, and nothing of its own runs in between.
 */
export async function startBenchDatabase() {
  const postgres = await startPostgres({ autovacuum: 'off' }, { plain: true })
  const { admin } = postgres
  const addresses = {} as Record<DatabaseName, string>
  for (const name of ['ours', 'plain'] as const) {
    const database = await postgres.createDatabase()
    addresses[name] = databaseUrl(
      { host: '127.0.0.1', port: postgres.port, database },
      'sslmode=disable',
    )
  }
  const ours = connect(parseDatabaseUrl(addresses.ours))
  await migrate(ours)
  await ours.script(
    `insert into task_lists (user_id, counter, task_count)
       select 'user-' || who, ${tasksPerUser}, ${tasksPerUser} from generate_series(1, ${usersCount}) who;
     insert into tasks (${columns}) ${rows.replace('%PRIORITY%', '::task_priority')};
     update tasks set change = (id - 1) % ${tasksPerUser} + 1, created_change = (id - 1) % ${tasksPerUser} + 1`,
    60_000,
  )
  const plain = connect(parseDatabaseUrl(addresses.plain))
  await plain.script(await Bun.file(join(import.meta.dir, 'peers/schema.sql')).text(), 60_000)
  await plain.script(`insert into tasks (${columns}) ${rows.replace('%PRIORITY%', '')}`, 60_000)

  /** Takes away what the last work left behind, so that the next one starts from the same place. */
  async function tidy(): Promise<void> {
    for (const database of [ours, plain]) {
      await database.query`delete from tasks where user_id like 'writer-%'`
      await database.query`vacuum analyze tasks`
    }
    await ours.query`update task_lists set task_count = 0 where user_id like 'writer-%'`
    await ours.query`vacuum analyze task_lists`
    await admin`checkpoint`
  }

  await tidy()
  return {
    addresses,
    /** The process that all others of the server are children of. */
    pid: postgres.pid,
    tidy,
    async close(): Promise<void> {
      await ours.close()
      await plain.close()
      await postgres.close()
    },
  }
}
