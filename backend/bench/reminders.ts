/**
 * What reminders cost: `bun run bench:reminders`. What a task without any pays, what streams that are
 * open pay, and how late events are when ten thousand reminders are due at one instant. It needs more
 * requests at once than the runtime allows by itself (BUN_CONFIG_MAX_HTTP_REQUESTS).
 */
import { newUser } from '../tests/support/api.ts'
import { openEvents } from '../tests/support/events.ts'
import { databaseUrl, startPostgres } from '../tests/support/postgres.ts'
import { startServer } from '../tests/support/server.ts'
import { parseDatabaseUrl } from '../db/address.ts'
import { connect } from '../db/pool.ts'
import { createTaskStore } from '../tasks/store.ts'
import { createTaskList } from '../tasks/list/list.ts'
import { cpuSeconds } from './cpu.ts'

const postgres = await startPostgres({ autovacuum: 'off' })
const url = databaseUrl(postgres, 'sslmode=require')
const sql = postgres.admin
const say = (line: string) => void process.stdout.write(`${line}\n`)
const server = await startServer(url, { MAX_TASKS_PER_USER: '100000' })

/** Microseconds of PostgreSQL's CPU time for one of many. */
async function postgresCpu(times: number, action: () => Promise<unknown>): Promise<number> {
  for (let time = 0; time < 200; time += 1) await action()
  const before = cpuSeconds(postgres.pid)
  for (let time = 0; time < times; time += 1) await action()
  return ((cpuSeconds(postgres.pid) - before) / times) * 1e6
}

/** What writes and lists cost, by turns with the triggers and without them. */
async function comparePlain(): Promise<void> {
  const database = connect(parseDatabaseUrl(`${url}&max=1`))
  const store = createTaskStore(database, { maxTasksPerUser: 1_000_000 })
  const owner = 'plain'
  const { id } = await store.create(owner, { title: 'Buy milk' }, {})
  for (let count = 0; count < 20; count += 1) await store.create(owner, { title: 'Other' }, {})
  const fresh = createTaskList(database)
  const works: [string, () => Promise<unknown>][] = [
    ['toggle', async () => store.toggle(owner, id, {})],
    ['create', async () => store.create(crypto.randomUUID(), { title: 'New' }, {})],
    [
      'list of 21',
      async () => fresh(owner, { tz: 'UTC', q: crypto.randomUUID().slice(0, 1) }, undefined),
    ],
  ]
  for (const [name, work] of works) {
    const found = { with: Infinity, without: Infinity }
    for (let round = 0; round < 5; round += 1)
      for (const state of ['with', 'without'] as const) {
        await sql.unsafe(
          `alter table todo_api.tasks ${state === 'with' ? 'enable' : 'disable'} trigger user`,
        )
        found[state] = Math.min(found[state], await postgresCpu(3_000, work))
      }
    say(
      `${name}: ${found.with.toFixed(1)} µs with the triggers, ${found.without.toFixed(1)} µs without`,
    )
  }
  await sql.unsafe('alter table todo_api.tasks enable trigger user')
  await database.close()
}

type User = Awaited<ReturnType<typeof newUser>>
type Received = { due: number; at: number }

/** An instant in an event, in milliseconds since 1970. */
function instantIn(event: unknown, name: string): number {
  const [, instant = ''] = new RegExp(`"${name}":"([^"]+)"`).exec(JSON.stringify(event)) ?? []
  return Date.parse(instant)
}

/** Of values in their order. */
const share = (values: number[], part: number) => values[Math.floor((values.length - 1) * part)]

async function openStreams(users: readonly User[], received: Received[]) {
  return Promise.all(
    users.map(async ({ token }) =>
      openEvents(
        `${server.origin}/api/tasks/events`,
        { authorization: `Bearer ${token}` },
        ({ event, data }) => {
          if (event !== 'reminder.due') return
          received.push({ due: instantIn(data, 'fires_at'), at: Date.now() })
        },
      ),
    ),
  )
}

/** Gives each user tasks with a reminder at an instant of SQL's, and lets their stream know. */
async function setReminders(users: readonly User[], each: number, at: string): Promise<void> {
  await inTurns(users, async ({ id, token }) => {
    await sql`
      with list as (
        insert into todo_api.task_lists (user_id, counter, task_count) values (${id}, ${each}, ${each})
        on conflict (user_id) do update set
          counter = task_lists.counter + ${each}, task_count = task_lists.task_count + ${each}
        returning counter
      )
      insert into todo_api.tasks (user_id, title, change, reminders)
      select
        ${id}, 'Task ' || n, counter - ${each} + n,
        jsonb_build_array(jsonb_build_object('at', ${sql.unsafe(at)}))
      from list, generate_series(1, ${each}::int) as n`
    await server.request('POST', '/api/tasks', { token, json: { title: 'A nudge' } })
  })
}

async function inTurns(users: readonly User[], act: (user: User) => Promise<void>) {
  const left = [...users]
  const worker = async () => {
    for (let user = left.pop(); user; user = left.pop()) await act(user)
  }
  await Promise.all(Array.from({ length: 20 }, worker))
}

async function cpuOf(seconds: number): Promise<string> {
  const before = [cpuSeconds(server.pid), cpuSeconds(postgres.pid)]
  await Bun.sleep(seconds * 1_000)
  const used = [cpuSeconds(server.pid), cpuSeconds(postgres.pid)].map(
    (after, index) => ((after - before[index]!) / seconds) * 100,
  )
  return `${used[0]!.toFixed(2)} % of a core for the server, ${used[1]!.toFixed(2)} % for PostgreSQL`
}

/** What streams cost that are open and quiet, and then with a reminder for each user within the hour. */
async function streamsAtRest(count: number): Promise<void> {
  const users = await Promise.all(Array.from({ length: count }, newUser))
  const received: Received[] = []
  const streams = await openStreams(users, received)
  await Bun.sleep(5_000)
  say(`${count} streams without reminders: ${await cpuOf(30)}`)
  await setReminders(users, 1, `clock_timestamp() + random() * interval '1 hour'`)
  await Bun.sleep(5_000)
  say(
    `${count} streams with a reminder each within the hour: ${await cpuOf(30)}; ${received.length} came`,
  )
  for (const stream of streams) stream.close()
}

const notice = 25_000 // ms, for the streams to hear of it

async function atOneInstant(people: number, tasks: number): Promise<void> {
  const users = await Promise.all(Array.from({ length: people }, newUser))
  const received: Received[] = []
  const streams = await openStreams(users, received)
  const at = Math.ceil(Date.now() / 1_000) * 1_000 + notice
  await setReminders(users, tasks, `to_timestamp(${at / 1_000})`)
  const learned = Date.now()
  const bystander = await newUser()
  const beside: number[] = []
  const watched = await openEvents(
    `${server.origin}/api/tasks/events`,
    { authorization: `Bearer ${bystander.token}` },
    ({ data }) => beside.push(Date.now() - instantIn(data, 'created_at')),
  )
  while (received.length < people * tasks && Date.now() - at < 120_000) {
    if (Date.now() >= at)
      await server.request('POST', '/api/tasks', { ...bystander, json: { title: 'Beside' } })
    else await Bun.sleep(20)
  }
  const late = received.map(({ due, at: came }) => came - due).toSorted((a, b) => a - b)
  beside.sort((a, b) => a - b)
  say(
    `${people} users with ${tasks} each at one instant (known ${at - learned} ms before): ` +
      `${received.length} came, after ${share(late, 0.5)} ms (median), ${share(late, 0.99)} ms (99 %), ${share(late, 1)} ms (all); ` +
      `another user's write was in their stream after ${share(beside, 0.5)} ms (median), ${share(beside, 1)} ms (longest)`,
  )
  watched.close()
  for (const stream of streams) stream.close()
}

await comparePlain()
await atOneInstant(1, 10_000)
await atOneInstant(1_000, 10)
await streamsAtRest(1_000)
await server.end()
await postgres.close()
process.exit(0)
