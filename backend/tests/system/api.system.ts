import { afterAll, expect, test } from 'bun:test'
import { newUser } from '../support/api.ts'
import { partition } from '../support/partitions.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { repository, startServer } from '../support/server.ts'

const postgres = await startPostgres()
const pooler = await startPgBouncer(postgres)
afterAll(async () => {
  await pooler.close()
  await postgres.close()
})

const parameters = 'sslmode=require&channel_binding=require&prepare=false'
const patience = 480_000 // ms, for all of them

/** Tests of what is in the tables. The others have nothing to do with partitions. */
const aboutTables = [
  'bulk',
  'compat',
  'counting',
  'due',
  'idempotency',
  'isolation',
  'keys',
  'large-answers',
  'list',
  'mcp',
  'missing-lists',
  'recurrence',
  'reminders',
  'resources',
  'sync',
  'tasks',
  'versions',
].map((name) => `backend/tests/api/${name}.test.ts`)

/** Runs tests of the API over a database of the server, through the pooler. */
async function runApiTests(database: string, paths: string[]): Promise<void> {
  const run = Bun.spawn([process.execPath, 'test', '--randomize', '--timeout=60000', ...paths], {
    cwd: repository,
    env: {
      ...process.env,
      TEST_DATABASE_URL: databaseUrl({ ...pooler, database }, parameters),
      NODE_EXTRA_CA_CERTS: postgres.certificates.authority,
    },
    stdout: 'inherit',
    stderr: 'pipe',
  })
  const output = await run.stderr.text()
  process.stderr.write(output)
  expect(await run.exited).toBe(0)
  expect(output).toMatch(/^ *[1-9]\d* pass$/m)
}

test(
  'every API test passes on PostgreSQL behind PgBouncer, by a URL as Neon writes it',
  async () => {
    await runApiTests('neondb', ['backend/tests/api/'])
    const kept = await postgres.admin`select from todo_api.tasks`
    expect(kept.length).toBeGreaterThan(0)
  },
  patience,
)

test(
  'every API test of what is in the tables passes on eight partitions, which a server in use has survived',
  async () => {
    const database = await postgres.createDatabase()
    const admin = postgres.connectAsSuperuser(database)
    const server = await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))
    const users = await Promise.all(Array.from({ length: 10 }, newUser))
    const write = async (title: string) => {
      for (const { token } of users)
        expect(
          (await server.request('POST', '/api/tasks', { token, json: { title } })).status,
        ).toBe(201)
    }
    await write('Before')
    await admin`create role looker`
    await admin`grant select on todo_api.tasks to looker`
    await partition(admin, owner.name)
    await write('After')
    for (const { token } of users) {
      const { body } = await server.request('GET', '/api/tasks', { token })
      expect(body).toMatchObject([{ title: 'Before' }, { title: 'After' }])
    }
    const partitions = await admin`
      select from pg_partition_tree('todo_api.tasks') where isleaf`
    expect(partitions).toHaveLength(8)
    const [rights] = await admin`
      select has_table_privilege('looker', 'todo_api.tasks', 'select') as may_look`
    expect(rights).toEqual({ may_look: true })
    // Nothing is missing after it: a start changes nothing.
    await server.end()
    await (await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))).end()
    await runApiTests(database, aboutTables)
    await admin.end({ timeout: 1 })
  },
  patience,
)
