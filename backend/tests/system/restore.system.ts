import { afterAll, expect, test } from 'bun:test'
import { $ } from 'bun'
import { join } from 'node:path'
import { newUser, type TaskBody } from '../support/api.ts'
import { openEvents } from '../support/events.ts'
import { run } from '../support/process.ts'
import {
  databaseUrl,
  newestPrograms,
  owner,
  startPostgres,
  superuser,
} from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const name = await postgres.createDatabase()
const url = databaseUrl({ ...postgres, database: name }, 'sslmode=require')
/** Nobody is there, so that the servers look for changes every second, and not every 15. */
const noListener = { DATABASE_URL_UNPOOLED: databaseUrl({ port: 1 }, 'sslmode=require') }
const first = await startServer(url, noListener)
const second = await startServer(url, noListener)
const programs = await newestPrograms()
const backup = join(postgres.directory, 'backup')
const place = ['-h', postgres.directory, '-p', String(postgres.port), '-U', superuser]
afterAll(async () => {
  await Promise.all([first.end('SIGKILL'), second.end('SIGKILL')])
  await postgres.close()
})

/** Puts the backup in the database's place, while the servers run. */
async function restore(): Promise<void> {
  const fresh = await postgres.createDatabase()
  await $`${programs}/pg_restore ${place} --no-owner --role ${owner.name} -d ${fresh} ${backup}`.quiet()
  await postgres.admin.unsafe(`alter database ${name} with allow_connections false`)
  await postgres.admin`select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = ${name}`
  await postgres.admin.unsafe(`alter database ${name} rename to lost_${fresh}`)
  await postgres.admin.unsafe(`alter database ${fresh} rename to ${name}`)
}

const markRestored = async (address = url) =>
  run(
    'backend/programs/executable.ts',
    postgres.directory,
    { NODE_ENV: 'production', DATABASE_URL: address },
    ['restored'],
  )

test('after a restore, nothing given out in the lost future is believed', async () => {
  const { token } = await newUser()
  const json = { title: 'Kept' }
  const kept = await first.request<TaskBody>('POST', '/api/tasks', { token, json })
  const path = `/api/tasks/${kept.body.id}`
  await $`${programs}/pg_dump ${place} -Fc -f ${backup} ${name}`.quiet()

  /** As many writes of the same kind in each future, so that all numbers come again. */
  async function liveOn(title: string) {
    await first.request('PATCH', path, { token, json: { title } })
    const created = await first.request<TaskBody>('POST', '/api/tasks', { token, json: { title } })
    const list = await first.request<TaskBody[]>('GET', '/api/tasks', { token })
    expect((await second.request<TaskBody[]>('GET', '/api/tasks', { token })).body).toEqual(
      list.body,
    )
    const task = await first.request<TaskBody>('GET', path, { token })
    return {
      created: created.body.id,
      titles: list.body.map((each) => each.title),
      list: list.headers.get('etag')!,
      sync: list.headers.get('sync-token')!,
      task: task.headers.get('etag')!,
    }
  }

  async function follow(position: string) {
    const stream = await openEvents(`${second.origin}/api/tasks/events?since=${position}`, {
      authorization: `Bearer ${token}`,
    })
    await stream.received(1)
    return stream
  }

  const futures: Awaited<ReturnType<typeof liveOn>>[] = []
  const seen: string[] = []
  // Twice from the same backup: the second must not come back to what the first has given out.
  for (const title of ['Lost', 'Lost again', 'Stays']) {
    const now = await liveOn(title)
    expect(now.titles).toEqual([title, title])
    for (const { request } of [first, second]) {
      for (const lost of futures) {
        const conditional = async (target: string, tag: string) =>
          request<TaskBody>('GET', target, { token, headers: { 'if-none-match': tag } })
        expect((await conditional('/api/tasks', lost.list)).status).toBe(200)
        expect((await conditional(path, lost.task)).body).toMatchObject({ title })
        const blind = { token, json: { title: 'Overwritten' }, headers: { 'if-match': lost.task } }
        expect((await request('PATCH', path, blind)).status).toBe(412)
        expect((await request('GET', `/api/tasks/${lost.created}`, { token })).status).toBe(404)
        const changes = await request('GET', `/api/tasks/changes?since=${lost.sync}`, { token })
        expect([changes.status, changes.body]).toMatchObject([410, { code: 'sync_token_expired' }])
      }
    }
    for (const position of [...seen, ...futures.map(({ sync }) => sync)]) {
      const stream = await follow(position)
      expect(stream.events[0]).toMatchObject({ event: 'resync' })
      stream.close()
    }
    // What is given out now is good, on both.
    for (const { request } of [first, second]) {
      const headers = { 'if-none-match': now.list }
      expect((await request('GET', '/api/tasks', { token, headers })).status).toBe(304)
      const changes = await request('GET', `/api/tasks/changes?since=${now.sync}`, { token })
      expect(changes.body).toMatchObject({ items: [], deleted: [] })
    }
    const open = await follow('0')
    await open.received(2)
    seen.push(open.events[1]!.id)
    futures.push(now)
    if (title === 'Stays') {
      open.close()
    } else {
      await restore()
      const { stdout, stderr, exitCode } = await markRestored()
      expect([stderr, exitCode]).toEqual([`Database: ${name} at ${new URL(url).host}\n`, 0])
      expect(stdout).toContain('marked as restored')
      // Whoever listens is sent away, and comes back with the id of an event that is lost.
      await open.ended
    }
  }
})

test('after a restore, a next task that nobody has touched is still taken back', async () => {
  const { token } = await newUser()
  const json = { title: 'Daily', due_date: '2030-05-17', recurrence: 'daily' }
  const { body } = await first.request<TaskBody>('POST', '/api/tasks', { token, json })
  const toggle = async () =>
    first.request<TaskBody>('PATCH', `/api/tasks/${body.id}/complete`, { token })
  expect((await toggle()).body.next_task_id).toBeGreaterThan(body.id)
  expect((await markRestored()).exitCode).toBe(0)
  expect((await toggle()).body).toMatchObject({ completed: false, next_task_id: null })
  const list = await first.request<TaskBody[]>('GET', '/api/tasks', { token })
  expect(list.body.map(({ id }) => id)).toEqual([body.id])
})

test.each([
  [
    'the password',
    databaseUrl(postgres, 'sslmode=require', 'wrong'),
    /^DATABASE_URL: password authentication failed for user "\w+" \(SQLSTATE 28P01\)\. Copy .*\n$/,
  ],
  [
    'the name of the database',
    databaseUrl({ ...postgres, database: 'nowhere' }, 'sslmode=require'),
    /^DATABASE_URL: database "nowhere" does not exist \(SQLSTATE 3D000\)\. Create .*\n$/,
  ],
  [
    'DATABASE_URL',
    '',
    /^The settings have problems:\n {2}- DATABASE_URL is required in production.*\n$/,
  ],
  [
    'the port',
    databaseUrl({ port: 1 }, 'sslmode=require'),
    /^The database does not answer yet.*\nDATABASE_URL: no database answered for 30 s: .*ECONNREFUSED.*\n$/,
  ],
])(
  'the command says in a line that %s is wrong, and exits 1',
  async (_, wrong, said) => {
    const { stdout, stderr, exitCode } = await markRestored(wrong)
    expect(stderr.replace(/^Database: .*\n/, '')).toMatch(said)
    expect([stdout, exitCode]).toEqual(['', 1])
  },
  60_000,
)
