import { afterAll, expect, test } from 'bun:test'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { repository } from '../support/server.ts'

const postgres = await startPostgres()
const pooler = await startPgBouncer(postgres)
afterAll(async () => {
  await pooler.close()
  await postgres.close()
})

const patience = 240_000 // ms, for all of them

test(
  'every API test passes on PostgreSQL behind PgBouncer, by a URL as Neon writes it',
  async () => {
    const run = Bun.spawn(
      [process.execPath, 'test', '--randomize', '--timeout=30000', 'backend/tests/api/'],
      {
        cwd: repository,
        env: {
          ...process.env,
          TEST_DATABASE_URL: databaseUrl(
            pooler,
            'sslmode=require&channel_binding=require&prepare=false',
          ),
          NODE_EXTRA_CA_CERTS: postgres.certificates.authority,
        },
        stdout: 'inherit',
        stderr: 'pipe',
      },
    )
    const output = await run.stderr.text()
    process.stderr.write(output)
    expect(await run.exited).toBe(0)
    expect(output).toMatch(/^ *[1-9]\d* pass$/m)
    const kept = await postgres.admin`select from todo_api.tasks`
    expect(kept.length).toBeGreaterThan(0)
  },
  patience,
)
