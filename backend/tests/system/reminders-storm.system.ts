import { afterAll, expect, test } from 'bun:test'
import { newUser, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents, type ReceivedEvent } from '../support/events.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { createRandom, type Random } from '../support/random.ts'
import { startServer } from '../support/server.ts'

const people = 3
const writersOfEach = 3
const tasksOfEach = 6
const soonest = 600 // ms, within which a reminder is due that is set
const lasts = 4_000 // ms

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const sql = postgres.admin
const servers = await Promise.all([startServer(url), startServer(url)])
afterAll(async () => {
  await Promise.all(servers.map(async (server) => server.end()))
  await postgres.close()
})

type User = { id: string; token: string }

// Writers set, move, complete, delete and restore what is due at that very moment, one by one and in
// bulk, at two servers which both tell of it.
test('reminders and writes of the same tasks at the same moment never wait for each other, and tell what is so', async () => {
  const seed = Date.now() % 1_000_000
  process.stdout.write(`seed ${seed}\n`)
  await sql.unsafe(history)
  const users: User[] = await Promise.all(Array.from({ length: people }, newUser))
  const streams = await Promise.all(
    users.flatMap((user) =>
      servers.map(async ({ origin }) => ({
        user,
        ...(await openEvents(`${origin}/api/tasks/events`, {
          authorization: `Bearer ${user.token}`,
        })),
      })),
    ),
  )
  const until = performance.now() + lasts
  await Promise.all(
    users.flatMap((user, person) =>
      Array.from({ length: writersOfEach }, async (_, writer) => {
        const next = createRandom(seed + person * writersOfEach + writer)
        while (performance.now() < until) await writeSomething(user, next)
      }),
    ),
  )
  for (const user of users) await expectTold(user)
  // What is due from now on would come while it is counted.
  await sql`delete from todo_api.reminders where change is null`
  for (const { user, events, close } of streams) {
    await expectReceived(await lastingOf(user), events)
    close()
  }
  const [found] = await sql<{ deadlocks: number }[]>`
    select deadlocks::int from pg_stat_database where datname = current_database()`
  expect(found!.deadlocks).toBe(0)
})

/** Every state in which a task was, by the number that it came with. */
const history = `
  create table history (
    user_id text, id bigint, change bigint, due_at timestamptz, reminders jsonb, is_silent boolean,
    written_at timestamptz
  );
  create index on history (id, change);
  create function remember_state() returns trigger language plpgsql security definer as $$
  begin
    insert into public.history values (
      new.user_id, new.id, new.change, new.due_at, new.reminders,
      new.completed or new.deleted_at is not null, clock_timestamp()
    );
    return null;
  end $$;
  create trigger remember_state after insert or update on todo_api.tasks
  for each row execute function remember_state();
  create function instants(due_at timestamptz, reminders jsonb) returns setof timestamptz language sql as $$
    select coalesce(
      (reminder ->> 'at')::timestamptz, due_at - (reminder ->> 'minutes_before')::int * interval '1 minute'
    ) from jsonb_array_elements(reminders) as reminder
  $$`

async function writeSomething({ token }: User, next: Random): Promise<void> {
  const { request } = servers[next(servers.length)]!
  async function send(method: string, path: string, json?: object): Promise<void> {
    const asked = { token, ...(json && { json }) }
    const { status } = await request(method, `/api/tasks${path}`, asked)
    expect({ method, path, isServed: status < 500 }).toEqual({ method, path, isServed: true })
  }
  const soon = () => ({ at: new Date(Date.now() + next(soonest)).toISOString() })
  const nextMinute = () => new Date(Date.now() + next(2) * 60_000).toISOString()
  const list = (await request<TaskBody[]>('GET', '/api/tasks', { token })).body
  const task = list[next(Math.max(list.length, 1))]
  const reminders = Array.from({ length: 1 + next(3) }, soon)
  if (!task || list.length < tasksOfEach)
    return send('POST', '', { title: 'Reminded', reminders, due_date: nextMinute() })
  const changes = [
    { reminders: [...reminders, { minutes_before: next(2) }] },
    { reminders, completed: false },
    { due_date: nextMinute() },
    { completed: next(2) === 0 },
    { title: 'Renamed' },
  ]
  const change = changes[next(changes.length)]!
  switch (next(6)) {
    case 0: {
      await send('DELETE', `/${task.id}`)
      return send('POST', `/${task.id}/restore`)
    }
    case 1:
      return send('POST', '/bulk', {
        atomic: false,
        operations: list.map(({ id }) => ({ op: 'update', id, data: change })),
      })
    case 2:
      return send('PATCH', `/${task.id}/complete`)
    default:
      return send('PATCH', `/${task.id}`, change)
  }
}

/** All that was told was so when it was told, and all that had to be told was. */
async function expectTold({ id: user }: User): Promise<void> {
  await eventually('nothing that is due waits', async () => {
    const waiting = await sql`
      select from todo_api.reminders where user_id = ${user} and change is null and fires_at < now()`
    return waiting.length === 0
  })
  const [told] = await sql<{ told: number; wrong: number; shared: number }[]>`
    select
      count(*)::int as told,
      count(*) filter (where is_silent or fires_at not in (select instants(due_at, reminders)))::int as wrong,
      (count(*) - count(distinct told.change))::int
        + (count(*) filter (where exists (
          select from history where history.user_id = told.user_id and history.change = told.change
        )))::int as shared
    from todo_api.reminders as told, lateral (
      select * from history where history.id = told.task_id and history.change < told.change
      order by history.change desc limit 1
    ) as state
    where told.user_id = ${user} and told.change is not null`
  const [untold] = await sql<{ count: number }[]>`
    select count(*)::int
    from (select distinct on (id) * from history where user_id = ${user} order by id, change desc) as state,
      instants(due_at, reminders) as instant
    where not is_silent and instant > written_at and instant < now() - interval '1 second'
      and not exists (
        select from todo_api.reminders
        where user_id = ${user} and task_id = state.id and fires_at = instant and change is not null
      )`
  expect({ ...told!, untold: untold!.count }).toEqual({
    told: expect.any(Number),
    wrong: 0,
    shared: 0,
    untold: 0,
  })
  expect(told!.told).toBeGreaterThan(0)
}

/** The numbers of all that was told, and whether nothing has happened to the task since. */
async function lastingOf({ id: user }: User): Promise<Map<number, boolean>> {
  const rows = await sql<{ change: number; is_lasting: boolean }[]>`
    select change::int, not exists (
      select from history where history.id = told.task_id and history.change > told.change
    ) as is_lasting
    from todo_api.reminders as told where user_id = ${user} and change is not null`
  return new Map(rows.map(({ change, is_lasting }) => [change, is_lasting]))
}

async function expectReceived(
  told: ReadonlyMap<number, boolean>,
  events: readonly ReceivedEvent[],
): Promise<void> {
  const received = () =>
    events.filter(({ event }) => event === 'reminder.due').map(({ id }) => Number(id))
  const lasting = [...told].filter(([, isLasting]) => isLasting).map(([id]) => id)
  await eventually('a stream gets all that was told', async () => {
    const ids = new Set(received())
    return lasting.every((id) => ids.has(id))
  })
  const ids = received()
  expect(new Set(ids).size).toBe(ids.length) // none twice
  expect(ids.filter((id) => !told.has(id))).toEqual([])
}
