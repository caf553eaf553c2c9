import type postgres from 'postgres'
import { newUser, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents, type ReceivedEvent } from '../support/events.ts'
import { databaseUrl } from '../support/postgres.ts'
import { createRandom } from '../support/random.ts'
import { startServer } from '../support/server.ts'
import type { User } from '../../battery/notebook.ts'
import type { Battery } from '../../battery/main.ts'

const seconds = { short: 4, long: 30 }
const people = 3
const writersOfEach = 3
const tasksOfEach = 6
const soonest = 600 // ms, within which a reminder is due that is set

type Server = Awaited<ReturnType<typeof startServer>>
type Sql = postgres.Sql

/**
 * Writers set, move, complete, delete and restore what is due at that very moment, one by one and in
 * bulk, at two servers which both tell of it. No two may wait for each other, nothing is told that was
 * not so when it got its number, nothing twice, and nothing is left untold.
 */
export async function remindersUnderWrites(battery: Battery): Promise<void> {
  const { postgres: cluster, report, seed, short } = battery
  const database = await cluster.createDatabase()
  const url = databaseUrl({ ...cluster, database }, 'sslmode=require')
  const servers = await Promise.all([startServer(url), startServer(url)])
  const sql = cluster.connectAsSuperuser(database)
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
  const until = performance.now() + seconds[short ? 'short' : 'long'] * 1_000
  await Promise.all(
    users.flatMap((user, person) =>
      Array.from({ length: writersOfEach }, async (_, writer) => {
        const next = createRandom(seed + person * writersOfEach + writer)
        while (performance.now() < until) await writeSomething(servers, user, next, battery)
      }),
    ),
  )
  for (const user of users) await judgeTold(sql, user, battery)
  // What is due from now on would come while it is counted.
  await sql`delete from todo_api.reminders where change is null`
  for (const { user, events, close } of streams) {
    await judgeStream(await lastingOf(sql, user), events, battery)
    close()
  }
  const [found] = await sql<{ deadlocks: number }[]>`
    select deadlocks::int from pg_stat_database where datname = ${database}`
  report.count('deadlocks', found!.deadlocks)
  if (found!.deadlocks > 0) report.violation(`${found!.deadlocks} deadlocks`)
  await Promise.all(servers.map(async (server) => server.end()))
  await sql.end({ timeout: 1 })
  await cluster.admin.unsafe(`drop database ${database} with (force)`)
}

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

async function writeSomething(
  servers: readonly Server[],
  { token }: User,
  next: (below: number) => number,
  { report }: Pick<Battery, 'report'>,
): Promise<void> {
  const { request } = servers[next(servers.length)]!
  async function send<Body>(method: string, path: string, json?: object): Promise<Body> {
    const { status, body } = await request<Body>(method, `/api/tasks${path}`, { token, json })
    report.count('writes among reminders')
    if (status >= 500) report.violation(`${method} ${path} is answered with ${status}`)
    return body
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

/** Whether all that was told was so when it was told, and all that had to be told was. */
async function judgeTold(
  sql: Sql,
  { id: user }: User,
  { report }: Pick<Battery, 'report'>,
): Promise<void> {
  await eventually('nothing that is due waits', async () => {
    const waiting = await sql`
      select from todo_api.reminders where user_id = ${user} and change is null and fires_at < now()`
    return waiting.length === 0
  }).catch((error: Error) => report.violation(error.message))
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
  report.count('reminders told', told!.told)
  if (told!.wrong > 0) report.violation(`${told!.wrong} reminders were told that were not so`)
  if (told!.shared > 0) report.violation(`${told!.shared} reminders share a number`)
  if (untold!.count > 0) report.violation(`${untold!.count} reminders were never told`)
}

/** The numbers of all that was told, and whether nothing has happened to the task since. */
async function lastingOf(sql: Sql, { id: user }: User): Promise<Map<number, boolean>> {
  const rows = await sql<{ change: number; is_lasting: boolean }[]>`
    select change::int, not exists (
      select from history where history.id = told.task_id and history.change > told.change
    ) as is_lasting
    from todo_api.reminders as told where user_id = ${user} and change is not null`
  return new Map(rows.map(({ change, is_lasting }) => [change, is_lasting]))
}

async function judgeStream(
  told: ReadonlyMap<number, boolean>,
  events: readonly ReceivedEvent[],
  { report }: Pick<Battery, 'report'>,
): Promise<void> {
  const received = () =>
    events.filter(({ event }) => event === 'reminder.due').map(({ id }) => Number(id))
  const lasting = [...told].filter(([, isLasting]) => isLasting).map(([id]) => id)
  await eventually('a stream gets all that was told', async () => {
    const ids = new Set(received())
    return lasting.every((id) => ids.has(id))
  }).catch((error: Error) => report.violation(error.message))
  const ids = received()
  report.count('reminders received', ids.length)
  if (new Set(ids).size < ids.length) report.violation('a stream got a reminder twice')
  if (ids.some((id) => !told.has(id))) report.violation('a stream got what was not told')
}
