import { join } from 'node:path'
import { parseDatabaseUrl } from '../db/address.ts'
import { connect } from '../db/pool.ts'
import { migrate } from '../db/migrate.ts'
import { eventually } from '../tests/support/eventually.ts'
import { databaseUrl, startPostgres } from '../tests/support/postgres.ts'
import { tasksPerUser, usersCount } from './work.ts'

export type BenchDatabase = Awaited<ReturnType<typeof startBenchDatabase>>

/** `ours` has this project's tables, `plain` the one table that its peers need. */
export type DatabaseName = 'ours' | 'plain'

const patience = { deadline: 60_000 } // ms

const columns = 'user_id, created_at, title, description, completed, priority, tags, due_date'
const rows = `
  select
    'user-' || who, timestamptz '2026-01-01' + number * interval '1 hour', 'Task ' || number || ' of user ' || who,
    'What is to be done, in a sentence of a usual length, for the user ' || who, number % 3 = 0,
    (array['none', 'low', 'medium', 'high'])[number % 4 + 1]%PRIORITY%, array['home', 'errand'],
    date '2030-01-01' + number
  from generate_series(1, ${usersCount}) who, generate_series(1, ${tasksPerUser}) number
  order by who, number`

/** Starts a PostgreSQL with the same tasks in two databases. Nothing of its own runs in between. */
export async function startBenchDatabase() {
  const postgres = await startPostgres({ autovacuum: 'off', fsync: undefined }, { plain: true })
  async function createDatabase(): Promise<string> {
    const database = await postgres.createDatabase()
    return databaseUrl({ host: '127.0.0.1', port: postgres.port, database }, 'sslmode=disable')
  }
  const addresses: Record<DatabaseName, string> = {
    ours: await createDatabase(),
    plain: await createDatabase(),
  }
  const ours = connect(parseDatabaseUrl(addresses.ours), patience)
  await migrate(ours)
  await ours.script(
    `insert into todo_api.task_lists (user_id, counter, task_count)
       select 'user-' || who, ${tasksPerUser}, ${tasksPerUser} from generate_series(1, ${usersCount}) who
       -- A first write is followed by two statements that make the list: it is not what is measured.
       union all select 'writer-' || who, 0, 0 from generate_series(1, ${usersCount}) who;
     insert into todo_api.tasks (${columns}) ${rows.replace('%PRIORITY%', '::todo_api.task_priority')};
     update todo_api.tasks set change = (id - 1) % ${tasksPerUser} + 1, created_change = (id - 1) % ${tasksPerUser} + 1`,
    patience.deadline,
  )
  const plain = connect(parseDatabaseUrl(addresses.plain), patience)
  const schema = await Bun.file(join(import.meta.dir, 'peers/schema.sql')).text()
  const filling = `insert into tasks (${columns}) ${rows.replace('%PRIORITY%', '')}`
  await plain.script(`${schema}; ${filling}`, patience.deadline)

  /** Takes away what the last work left behind, so that the next one starts from the same place. */
  async function tidy(): Promise<void> {
    await ours.query`delete from todo_api.tasks where user_id like 'writer-%'`
    await ours.query`vacuum analyze todo_api.tasks`
    await plain.query`delete from tasks where user_id like 'writer-%'`
    await plain.query`vacuum analyze tasks`
    await ours.query`update todo_api.task_lists set task_count = 0 where user_id like 'writer-%'`
    await ours.query`vacuum analyze todo_api.task_lists`
    await postgres.admin`checkpoint`
  }

  /** Whether a commit waits for the disk (`fsync`), as it does by PostgreSQL's defaults. */
  async function waitForDisk(waits: boolean): Promise<void> {
    await postgres.admin.unsafe(`alter system set fsync = ${waits ? 'on' : 'off'}`)
    await postgres.admin`select pg_reload_conf()`
    const isSet = async () => {
      const [{ fsync }] = await postgres.admin<[{ fsync: string }]>`show fsync`
      return (fsync === 'on') === waits
    }
    await eventually('fsync is set', isSet)
  }

  await waitForDisk(false)
  await tidy()
  return {
    addresses,
    ours,
    plain,
    /** The process that all others of the server are children of. */
    pid: postgres.pid,
    tidy,
    waitForDisk,
    /** Gives a user so many tasks. */
    async fill(user: string, tasks: number): Promise<void> {
      await ours.query`
        insert into todo_api.task_lists (user_id, counter, task_count) values (${user}, ${tasks}, ${tasks})
        on conflict (user_id) do update set counter = task_lists.counter + 1, task_count = ${tasks}`
      await ours.query`
        insert into todo_api.tasks (user_id, title, description, created_at, change, created_change)
        select ${user}, 'Task ' || number, 'What is to be done', timestamptz '2026-01-01' + number * interval '1 minute', number, number
        from generate_series(1, ${tasks}::int) number`
      await ours.query`vacuum analyze todo_api.tasks`
    },
    /** Gives so many thousands of other users 20 tasks each. */
    async crowd(thousands: number): Promise<void> {
      for (let thousand = 0; thousand < thousands; thousand += 1)
        await ours.script(
          `insert into todo_api.task_lists (user_id, counter, task_count)
             select 'other-' || ${thousand} || '-' || who, ${tasksPerUser}, ${tasksPerUser} from generate_series(1, 1000) who;
           insert into todo_api.tasks (${columns}, change, created_change)
             select 'other-' || ${thousand} || '-' || who, created_at, title, description, completed, priority, tags,
               due_date, change, created_change
             from todo_api.tasks, generate_series(1, 1000) who where user_id = 'user-1'`,
          patience.deadline,
        )
      await ours.script('vacuum analyze todo_api.tasks', patience.deadline)
    },
    async close(): Promise<void> {
      await ours.close()
      await plain.close()
      await postgres.close()
    },
  }
}
