import { afterAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import { newUser, tokenFor, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents, type ReceivedEvent } from '../support/events.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'
import { parseDatabaseUrl } from '../../db/address.ts'
import { connect } from '../../db/pool.ts'
import { createFireReminders } from '../../reminders/reminders.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const sql = postgres.admin
afterAll(async () => postgres.close())

type User = { id: string; token: string }
type Server = Awaited<ReturnType<typeof startServer>>
type Due = { task: TaskBody; fires_at: string; late: boolean }

const later = { at: '2126-01-01T00:00:00.000Z' }

async function create(server: Server, { token }: User, json: object): Promise<TaskBody> {
  const asked = { token, json: { title: 'Reminded', ...json } }
  return (await server.request<TaskBody>('POST', '/api/tasks', asked)).body
}

async function follow(server: Server, { token }: User, lastEventId?: string) {
  return openEvents(`${server.origin}/api/tasks/events`, {
    authorization: `Bearer ${token}`,
    ...(lastEventId !== undefined && { 'last-event-id': lastEventId }),
  })
}

/** Waits for so many reminders. */
const reminded = async (stream: Awaited<ReturnType<typeof follow>>, many = 1) =>
  stream.until(() => dueIn(stream.events).length >= many)
const isDue = ({ event }: ReceivedEvent) => event === 'reminder.due'
const dueIn = (events: ReceivedEvent[]) => events.filter(isDue).map(({ data }) => data as Due)

/** By the database's clock. */
async function instantIn(milliseconds: number): Promise<string> {
  const [row] = await sql<{ at: string }[]>`
    select to_char((clock_timestamp() + ${milliseconds}::int * interval '1 ms') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at`
  return row!.at
}

/** A task whose reminder waits: on a slow machine one that is due soon may be past when it is set. */
async function createDueIn(server: Server, user: User, milliseconds: number): Promise<TaskBody> {
  const task = await create(server, user, {
    reminders: [{ at: await instantIn(milliseconds) }],
  })
  const waiting = await sql`
    select from todo_api.reminders where task_id = ${task.id}`
  return waiting.length > 0 ? task : createDueIn(server, user, milliseconds * 2)
}

/** As if so much time had passed since the reminder of a task was due. */
async function letBeDue({ id }: TaskBody, ago: string): Promise<void> {
  await sql`
    update todo_api.reminders set fires_at = now() - ${ago}::interval where task_id = ${id} and change is null`
}

describe('a reminder', () => {
  test('comes once to each of two tabs at each of two processes', async () => {
    const servers = await Promise.all([startServer(url), startServer(url)])
    const user = await newUser()
    const streams = await Promise.all(
      [...servers, ...servers].map(async (server) => follow(server, user)),
    )
    const many = 5
    for (let number = 0; number < many; number += 1)
      await createDueIn(servers[number % 2]!, user, 1_500)
    for (const stream of streams) {
      await reminded(stream, many)
      // Later events show that no more of them come.
      await create(servers[0], user, {})
      await stream.until(() => stream.events.at(-1)!.event === 'task.created')
      const due = stream.events.filter(isDue)
      expect(due).toHaveLength(many)
      expect(new Set(due.map(({ id }) => id)).size).toBe(many)
      stream.close()
    }
    const fired = await sql`
      select change from todo_api.reminders where user_id = ${user.id} and change is not null`
    expect(fired).toHaveLength(many)
    expect(await Promise.all(servers.map(async (server) => server.end()))).toEqual([0, 0])
  })

  test('whose process was killed before it could tell of it comes when the client resumes', async () => {
    const killed = await startServer(url)
    const user = await newUser()
    const stream = await follow(killed, user)
    const task = await createDueIn(killed, user, 1_000)
    await stream.received(1)
    // A reminder can only be told if it is read, and reading fails here.
    const held = await sql.reserve()
    await held`begin`
    await held`lock table todo_api.epoch in access exclusive mode`
    await eventually('it is claimed', async () => {
      const rows = await held`
        select from todo_api.reminders where task_id = ${task.id} and change is not null`
      return rows.length === 1
    })
    await killed.end('SIGKILL')
    await held`rollback`
    held.release()
    await stream.ended
    expect(dueIn(stream.events)).toEqual([])
    const other = await startServer(url)
    const resumed = await follow(other, user, stream.events[0]!.id)
    await reminded(resumed)
    expect(dueIn(resumed.events)).toMatchObject([{ task: { id: task.id } }])
    resumed.close()
    await other.end()
  })

  test('that was due while the database was away comes afterwards: late after a minute, never after a day', async () => {
    const server = await startServer(url)
    const user = await newUser()
    const stream = await follow(server, user)
    const [soon, minute, day] = [
      await createDueIn(server, user, 1_500),
      await create(server, user, { reminders: [later] }),
      await create(server, user, { reminders: [later] }),
    ]
    await stream.received(3)
    await postgres.stop()
    await server.logged('the event streams wait for the database')
    await postgres.start()
    await letBeDue(minute, '61 seconds')
    await letBeDue(day, '25 hours')
    await reminded(stream, 2)
    const due = dueIn(stream.events)
    expect(due.find((each) => each.task.id === soon.id)).toBeDefined()
    expect(due.find((each) => each.task.id === minute.id)).toMatchObject({ late: true })
    await eventually('the other is dropped', async () => {
      const rows = await sql`select from todo_api.reminders where task_id = ${day.id}`
      return rows.length === 0
    })
    expect(dueIn(stream.events)).toHaveLength(2)
    stream.close()
    await server.end()
  })

  test('comes by the database’s clock, whatever the server’s says', async () => {
    async function withClockOff(hours: number): Promise<void> {
      const preload = join(postgres.directory, `clock${hours}.ts`)
      await Bun.write(
        preload,
        `const now = Date.now
         Date.now = () => now() + ${hours} * 3_600_000
         globalThis.Date = new Proxy(Date, {
           construct: (target, given) => Reflect.construct(target, given.length ? given : [target.now()]),
         })`,
      )
      const server = await startServer(url, { BUN_OPTIONS: `--preload=${preload}` })
      const { time } = await server.logged('listening')
      expect(Math.round((Date.parse(time!) - Date.now()) / 3_600_000)).toBe(hours)
      const { id } = await newUser()
      const exp = Math.floor(Date.now() / 1000) + 24 * 3_600
      const user = { id, token: await tokenFor(id, { exp }) }
      const stream = await follow(server, user)
      const { reminders } = await createDueIn(server, user, 1_500)
      await reminded(stream)
      expect(dueIn(stream.events)).toMatchObject([{ task: { reminders }, late: false }])
      const rows = await sql`
        select fired_at >= fires_at as is_not_early from todo_api.reminders where user_id = ${id}`
      expect([...rows]).toEqual([{ is_not_early: true }])
      stream.close()
      await server.end()
    }
    await Promise.all([withClockOff(-5), withClockOff(5)])
  })

  test('of a user whose list is held keeps nobody else’s waiting', async () => {
    const server = await startServer(url)
    const [held, free] = await Promise.all([newUser(), newUser()])
    const streams = await Promise.all([follow(server, held), follow(server, free)])
    const at = await instantIn(2_000)
    for (const user of [held, free]) await create(server, user, { reminders: [{ at }] })
    const holder = await sql.reserve()
    await holder`begin`
    await holder`select from todo_api.task_lists where user_id = ${held.id} for update`
    await reminded(streams[1])
    expect(dueIn(streams[0].events)).toEqual([])
    await holder`rollback`
    holder.release()
    await reminded(streams[0])
    expect(dueIn(streams[0].events)).toMatchObject([{ fires_at: at }])
    for (const stream of streams) stream.close()
    await server.end()
  })

  test('of a user whose list is held does not keep back the others in its statement', async () => {
    const server = await startServer(url)
    const [held, free] = await Promise.all([newUser(), newUser()])
    for (const user of [held, free])
      await letBeDue(await create(server, user, { reminders: [later] }), '1 second')
    const database = connect(parseDatabaseUrl(url))
    const fire = createFireReminders(database)
    const release = await postgres.hold(
      `select from todo_api.task_lists where user_id = '${held.id}' for update`,
    )
    // The first goes at once, and the other two together.
    const fired = await Promise.all(['nobody', held.id, free.id].map(fire))
    expect(fired).toEqual([false, false, true])
    await release()
    expect(await fire(held.id)).toBe(true)
    await database.close()
    await server.end()
  })

  test('of one user waits for no more than a share of what others have due', async () => {
    const server = await startServer(url)
    const [many, other, few] = ['many', 'other', 'few'].map(
      (name) => `${name}-${crypto.randomUUID()}`,
    )
    await sql`
      insert into todo_api.task_lists (user_id, counter, task_count)
      select *, 0, 0 from unnest(${[many!, other!, few!]}::text[])`
    await sql`
      insert into todo_api.reminders (user_id, task_id, fires_at)
      select owner, n, now() - interval '2 seconds' from unnest(${[many!, other!]}::text[]) as owner, generate_series(1, 20) n
      union all select ${few!}, 1, now() - interval '1 second'`
    const fire = async () => sql`
      select owner, fired::int from todo_api.fire_reminders(${[many!, other!, few!]}, 9) order by owner`
    expect([...(await fire())]).toEqual([
      { owner: few, fired: 1 },
      { owner: many, fired: 3 },
      { owner: other, fired: 3 },
    ])
    expect([...(await fire())]).toEqual([
      { owner: many, fired: 4 },
      { owner: other, fired: 4 },
    ])
    await server.end()
  })

  test('is not delayed by others that are too old to be told', async () => {
    const server = await startServer(url)
    const user = await newUser()
    const task = await create(server, user, { reminders: [later] })
    await letBeDue(task, '1 second')
    await server.end() // It purges what is old.
    await sql`
      insert into todo_api.reminders (user_id, task_id, fires_at)
      select ${user.id}, 1000000 + n, now() - interval '25 hours' from generate_series(1, 700) n`
    const database = connect(parseDatabaseUrl(url))
    const fire = createFireReminders(database)
    // It says each time that more may be due, though the first told of nothing.
    expect([await fire(user.id), await fire(user.id), await fire(user.id)]).toEqual([
      true,
      true,
      false,
    ])
    const rows = await sql`
      select task_id::int, change is not null as is_told from todo_api.reminders where user_id = ${user.id}`
    expect([...rows]).toEqual([{ task_id: task.id, is_told: true }])
    await database.close()
  })

  test('comes to a user whose tasks were written past the API, without a list', async () => {
    const server = await startServer(url)
    const user = await newUser()
    const [task] = await sql<{ id: number }[]>`
      insert into todo_api.tasks (user_id, title, reminders, change, created_change)
      values (${user.id}, 'By SQL', ${sql.json([later])}, 1, 1) returning id::int`
    await sql`update todo_api.reminders set fires_at = now() where task_id = ${task!.id}`
    const stream = await follow(server, user)
    await reminded(stream)
    expect(dueIn(stream.events)).toMatchObject([{ task: { id: task!.id }, late: false }])
    stream.close()
    await server.end()
  })

  test('moves with its task if a server of the previous version, whose role may not use the table, writes that', async () => {
    const server = await startServer(url)
    const user = await newUser()
    const task = await create(server, user, {
      due_date: '2126-03-01T09:30:00Z',
      reminders: [{ minutes_before: 30 }],
    })
    await sql.begin(async (older) => {
      await older`create role older`
      await older`grant usage on schema todo_api to older`
      await older`grant select, update on todo_api.tasks, todo_api.task_lists to older`
      await older`set local role older`
      await older`
        with list as (
          update todo_api.task_lists set counter = counter + 1 where user_id = ${user.id} returning counter
        )
        update todo_api.tasks set due_date = '2126-03-02', version = version + 1, change = list.counter
        from list where tasks.user_id = ${user.id}`
    })
    const rows = await sql`
      select fires_at = '2126-03-02T09:00Z' as is_moved from todo_api.reminders where task_id = ${task.id}`
    expect([...rows]).toEqual([{ is_moved: true }])
    await server.end()
  })

  test('is neither waited for nor looked for when nobody has a stream open', async () => {
    const server = await startServer(url)
    const user = await newUser()
    const stream = await follow(server, user)
    const task = await createDueIn(server, user, 1_000)
    await stream.received(1)
    stream.close()
    const other = await newUser()
    const beside = await follow(server, other)
    await createDueIn(server, other, 2_500)
    await reminded(beside)
    const rows = await sql`
      select fires_at < now() as is_due, change from todo_api.reminders where task_id = ${task.id}`
    expect([...rows]).toEqual([{ is_due: true, change: null }])
    const next = await follow(server, user)
    await reminded(next)
    expect(dueIn(next.events)).toMatchObject([{ task: { id: task.id } }])
    for (const each of [beside, next]) each.close()
    await server.end()
  })
})
