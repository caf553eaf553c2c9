import { afterAll, expect, test } from 'bun:test'
import { parseDatabaseUrl } from '../../db/address.ts'
import { listen } from '../../db/listen.ts'
import { newUser } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents } from '../support/events.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
afterAll(async () => postgres.close())

const most = 10 // connections of a pool
const urlOf = (name: string) => databaseUrl(postgres, `sslmode=require&application_name=${name}`)

/** How many sessions PostgreSQL keeps for a program; those that are signing in have no name yet. */
async function sessionsOf(name: string): Promise<number> {
  const [row] = await postgres.admin<{ count: number }[]>`
    select count(*)::int from pg_stat_activity
    where backend_type = 'client backend' and application_name in (${name}, '')`
  return row!.count
}

test('event streams that are opened and closed in a row leave no sessions behind', async () => {
  const server = await startServer(urlOf('quick'))
  const { token } = await newUser()
  const headers = { authorization: `Bearer ${token}` }
  const open = async () => openEvents(`${server.origin}/api/tasks/events`, headers)
  for (let cycle = 0; cycle < 300; cycle += 1) (await open()).close()
  expect(await sessionsOf('quick')).toBeLessThanOrEqual(most + 1)
  const stream = await open()
  await server.request('POST', '/api/tasks', { token, json: { title: 'Heard' } })
  await stream.received(1)
  stream.close()
  await eventually(
    'the listener goes after the last stream',
    async () => {
      const rows = await postgres.admin`
        select from pg_stat_activity where application_name = 'quick' and query like 'listen %'`
      return rows.length === 0
    },
    20_000,
  )
  expect(await server.end()).toBe(0)
  await eventually('the sessions end', async () => (await sessionsOf('quick')) === 0)
})

test('a listener that is stopped while it signs in leaves no session behind', async () => {
  const address = parseDatabaseUrl(urlOf('stopped'))
  for (let cycle = 0; cycle < 100; cycle += 1) {
    const stop = listen(address, 'news', {
      notify: async () => {},
      onPayload: () => {},
      onHearing: () => {},
      report: () => {},
    })
    await Bun.sleep(cycle / 10) // from before the line is there until after it has signed in
    await stop()
  }
  await eventually('no session is left', async () => (await sessionsOf('stopped')) === 0, 2_000)
})
