import { afterAll, expect, test } from 'bun:test'
import { parseDatabaseUrl } from '../../db/address.ts'
import { connect } from '../../db/pool.ts'
import { newUser, type TaskBody } from '../support/api.ts'
import { countingCheck } from '../support/counting-check.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const servers = [await startServer(url), await startServer(url)] as const
const database = connect(parseDatabaseUrl(`${url}&max=1`))
await database.script(countingCheck, 5_000)
afterAll(async () => {
  await Promise.all(servers.map(async (each) => each.end()))
  await database.close()
  await postgres.close()
})

type User = Awaited<ReturnType<typeof newUser>>
type Row = { id: number; previous: number | null; completed: boolean }

/** By one server and the other in turns. */
async function send<Body = TaskBody>(
  { token }: User,
  [method, path, json]: [method: string, path: string, json?: object],
  turn = 0,
) {
  return servers[turn % 2]!.request<Body>(method, `/api/tasks${path}`, {
    token,
    ...(json && { json }),
  })
}

/** Not all at once, or the last ones would wait for too long on a slow machine. */
async function inWaves<Answer>(
  count: number,
  act: (turn: number) => Promise<Answer>,
): Promise<Answer[]> {
  const answers: Answer[] = []
  while (answers.length < count) {
    const wave = Math.min(40, count - answers.length)
    answers.push(...(await Promise.all(Array.from({ length: wave }, async (_, turn) => act(turn)))))
  }
  return answers
}

async function createDaily(user: User): Promise<number> {
  const json = { title: 'Daily', due_date: '2030-05-17', recurrence: 'daily' }
  return (await send(user, ['POST', '', json])).body.id
}

/** The user's tasks, once it is clear that the list counts them and that every change has its own number. */
async function rowsOf({ id: user }: User): Promise<Row[]> {
  const rows = await database.query<Row & { change: number }>`
    select id, previous_task_id as previous, completed, change
    from todo_api.tasks where user_id = ${user} order by id`
  const gone = await database.query<{ change: number }>`
    select change from todo_api.deleted_tasks where user_id = ${user}`
  const [list] = await database.query<{ counter: number; task_count: number }>`
    select counter, task_count from todo_api.task_lists where user_id = ${user}`
  const numbers = [...rows, ...gone].map(({ change }) => change)
  expect(new Set(numbers).size).toBe(numbers.length)
  expect(Math.max(...numbers)).toBeLessThanOrEqual(list!.counter)
  expect(list!.task_count).toBe(rows.length)
  return rows.map(({ id, previous, completed }) => ({ id, previous, completed }))
}

async function expectNoDeadlock(): Promise<void> {
  const [row] = await postgres.admin<{ deadlocks: number }[]>`
    select deadlocks::int from pg_stat_database where datname = 'neondb'`
  expect(row!.deadlocks).toBe(0)
}

test('however many requests complete a task at once, at two servers, one task comes after it', async () => {
  const user = await newUser()
  const id = await createDaily(user)
  const answers = await inWaves(300, async (turn) =>
    send(user, ['PATCH', `/${id}/complete`, { completed: true }], turn),
  )
  const rows = await rowsOf(user)
  expect(rows).toEqual([
    { id, previous: null, completed: true },
    { id: rows[1]!.id, previous: id, completed: false },
  ])
  expect(new Set(answers.map(({ status, body }) => `${status} ${body.next_task_id}`))).toEqual(
    new Set([`200 ${rows[1]!.id}`]),
  )
})

test.each([120, 121])(
  'after a storm of %d toggles, every task that came is gone but the last',
  async (count) => {
    const user = await newUser()
    const id = await createDaily(user)
    const answers = await inWaves(count, async (turn) =>
      send(user, ['PATCH', `/${id}/complete`], turn),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    const isDone = count % 2 === 1
    const rows = await rowsOf(user)
    expect(rows.map(({ previous, completed }) => [previous, completed])).toEqual(
      isDone
        ? [
            [null, true],
            [id, false],
          ]
        : [[null, false]],
    )
    const [{ gone }] = (await database.query<{ gone: number }>`
    select count(*)::int as gone from todo_api.deleted_tasks where user_id = ${user.id}`) as [
      { gone: number },
    ]
    expect(gone).toBe(Math.floor(count / 2))
  },
)

test('a next task that is changed while it is taken back is gone or stays, and is never lost', async () => {
  const user = await newUser()
  for (let round = 0; round < 20; round += 1) {
    const id = await createDaily(user)
    const next = (await send(user, ['PATCH', `/${id}/complete`])).body.next_task_id
    const [back, change] = await Promise.all([
      send(user, ['PATCH', `/${id}/complete`], round),
      send(user, ['PATCH', `/${next}`, { title: 'Mine' }], round + 1),
    ])
    expect(back.body).toMatchObject({
      completed: false,
      next_task_id: change.status === 404 ? null : next,
    })
    const [left] = await database.query<{
      title: string
    }>`select title from todo_api.tasks where id = ${next}`
    expect([change.status, left?.title]).toEqual(
      change.status === 200 ? [200, 'Mine'] : [404, undefined],
    )
  }
  await rowsOf(user)
})

test.each([
  ['alone', (id: number) => ['PATCH', `/${id}/complete`, { completed: false }] as const],
  [
    'in bulk',
    (id: number) =>
      [
        'POST',
        '/bulk',
        { operations: [{ op: 'complete', id, data: { completed: false } }] },
      ] as const,
  ],
])('a next task that somebody holds is waited for, %s', async (_, takeBack) => {
  const user = await newUser()
  const id = await createDaily(user)
  const next = (await send(user, ['PATCH', `/${id}/complete`])).body.next_task_id
  const release = await postgres.hold(`select from todo_api.tasks where id = ${next} for update`)
  const answer = send(user, [...takeBack(id)])
  await eventually('it waits', async () => (await postgres.waiting()) > 0)
  await release()
  expect((await answer).status).toBe(200)
  expect(await rowsOf(user)).toEqual([{ id, previous: null, completed: false }])
})

test('a date that is cleared by a server that knows no rules takes the rule along', async () => {
  const user = await newUser()
  const id = await createDaily(user)
  await database.query`
    with list as (
      update todo_api.task_lists set counter = counter + 1 where user_id = ${user.id} returning counter
    )
    update todo_api.tasks set due_date = null, version = version + 1, change = counter, updated_at = now()
    from list where user_id = ${user.id}`
  const { body } = await send(user, ['GET', `/${id}`])
  expect(body).toMatchObject({ due_date: null, recurrence: null, occurrence_date: null })
  expect((await send(user, ['PUT', `/${id}`, { ...body, title: 'As it was' }])).status).toBe(200)
})

test('a bulk that waits for a next task holds nothing that others lock after that one', async () => {
  const user = await newUser()
  const id = await createDaily(user)
  const next = (await send(user, ['PATCH', `/${id}/complete`])).body.next_task_id
  const last = await createDaily(user)
  const rename = (task: unknown) => ({ op: 'update', id: task, data: { title: 'Mine' } })
  const bulk = async (turn: number, ...operations: object[]) =>
    send<unknown>(user, ['POST', '/bulk', { operations }], turn)
  const areWaiting = (count: number) => async () =>
    (await postgres.waiting({ longerThan: 200 })) === count

  const release = await postgres.hold(`select from todo_api.tasks where id = ${next} for update`)
  const changes = bulk(0, rename(next), rename(last))
  await eventually('the changes wait', areWaiting(1))
  const takesBack = bulk(1, { op: 'complete', id, data: { completed: false } }, rename(last))
  await eventually('both wait', areWaiting(2))
  await release()
  expect((await takesBack).status).toBe(200)
  const isChanged = (await changes).status === 200
  // Changed before it could be taken back; or, on a slow machine, the other way round.
  expect((await rowsOf(user)).map((row) => row.id)).toEqual(
    isChanged ? [id, next!, last] : [id, last],
  )
  await expectNoDeadlock()
})

test('toggles, bulks and changes of many series at once end in order, and without a deadlock', async () => {
  const user = await newUser()
  const ids = await Promise.all(Array.from({ length: 6 }, async () => createDaily(user)))
  const known = new Set(ids)
  const one = (turn: number) => [...known][(turn * 7) % known.size]!
  const acts: ((turn: number) => Promise<{ status: number; body: unknown }>)[] = [
    async (turn) => {
      const done = await send(user, ['PATCH', `/${one(turn)}/complete`], turn)
      if (done.body.next_task_id) known.add(done.body.next_task_id)
      return done
    },
    async (turn) => send(user, ['PUT', `/${one(turn)}`, { title: `Turn ${turn}` }], turn),
    async (turn) => send(user, ['POST', `/${one(turn)}/skip`], turn),
    async (turn) => {
      const some = new Set([one(turn), one(turn + 3), one(turn + 5)])
      const operations = [...some].map((id) => ({
        op: 'complete',
        id,
        data: { completed: turn % 8 < 4 },
      }))
      return send<unknown>(user, ['POST', '/bulk', { atomic: false, operations }], turn)
    },
  ]
  for (let round = 0; round < 8; round += 1) {
    const answers = await Promise.all(
      Array.from({ length: 24 }, async (_, turn) => acts[turn % acts.length]!(round * 24 + turn)),
    )
    for (const { status } of answers) expect([200, 404, 409]).toContain(status)
  }
  const rows = await rowsOf(user)
  const previous = rows.map((row) => row.previous).filter((id) => id !== null)
  expect(new Set(previous).size).toBe(previous.length)
  await expectNoDeadlock()
})
