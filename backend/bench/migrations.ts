/**
 * How long each migration takes with a million tasks: `bun run bench:migrations`. The first three are as
 * versions before the schema todo_api ran them; then the tables are moved into it.
 */
import { parseDatabaseUrl } from '../db/address.ts'
import { migrate, migrations } from '../db/migrate.ts'
import { connect } from '../db/pool.ts'
import { databaseUrl, startPostgres } from '../tests/support/postgres.ts'

const [users, tasksOfEach] = [10_000, 100]
const deadline = 600_000 // ms

async function timed(what: string, run: () => Promise<unknown>): Promise<void> {
  const began = performance.now()
  await run()
  const seconds = ((performance.now() - began) / 1000).toFixed(2)
  process.stdout.write(`${what.padEnd(32)}${seconds.padStart(7)} s\n`)
}

const postgres = await startPostgres({ fsync: 'on' })
const database = connect(
  parseDatabaseUrl(databaseUrl({ port: postgres.port }, 'sslmode=require')),
  { deadline },
)
const { script } = database
await script(
  'create table schema_migrations (name text primary key, applied_at timestamptz not null default now())',
  deadline,
)
for (const [index, { name, sql }] of migrations.slice(0, 3).entries()) {
  const record = `insert into schema_migrations (name) values ('${name}')`
  await timed(name, async () => script(`${record}; ${sql}`, deadline))
  if (index === 0)
    await timed('(a million tasks)', async () =>
      script(
        `insert into tasks (user_id, title, description, completed)
         select md5((n % ${users})::text), 'A title of the length that is usual, ' || n,
           'What is to be done, in a sentence of the length that is usual for this, ' || n, n % 3 = 0
         from generate_series(1, ${users * tasksOfEach}) n`,
        deadline,
      ),
    )
}
await timed('(half of them get tags, dates)', async () =>
  script(
    `update tasks set tags = array['home', 'errand'], due_date = date '2026-01-01' + (id % 365)::int,
       due_time = '09:00', due_timezone = 'Europe/Paris'
     where id % 2 = 0`,
    deadline,
  ),
)
await timed('(vacuum)', async () => postgres.admin`vacuum analyze`)
await timed('(moved into todo_api)', async () => migrate(database, []))
for (const [index, { name }] of migrations.entries())
  if (index > 2) await timed(name, async () => migrate(database, migrations.slice(0, index + 1)))
await database.close()
await postgres.close()
process.exit(0)
