import { afterAll, expect, test } from 'bun:test'
import { newUser, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startProxy } from '../support/proxy.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const servers = [await startServer(url), await startServer(url)] as const
const [server] = servers
afterAll(async () => {
  await Promise.all(servers.map(async (each) => each.end()))
  await postgres.close()
})

type User = Awaited<ReturnType<typeof newUser>>

async function newUsers(count: number): Promise<User[]> {
  return Promise.all(Array.from({ length: count }, newUser))
}

async function create({ token }: User, title: string): Promise<TaskBody> {
  const { status, body } = await server.request<TaskBody>('POST', '/api/tasks', {
    token,
    json: { title },
  })
  expect(status).toBe(201)
  return body
}

/** Transactions that PostgreSQL has committed, as soon as its sessions have told of them. */
async function transactions(): Promise<number> {
  const [row] = await postgres.admin<{ count: number }[]>`
    select xact_commit::int as count from pg_stat_database where datname = 'neondb'`
  return row!.count
}

async function deadlocks(): Promise<number> {
  const [row] = await postgres.admin<{ count: number }[]>`
    select deadlocks::int as count from pg_stat_database where datname = 'neondb'`
  return row!.count
}

test('a locked task keeps no other write waiting, and is changed once it is free', async () => {
  const [alice, ...others] = await newUsers(20)
  const locked = await create(alice!, 'Locked')
  const free = await create(alice!, 'Free')
  const tasks = await Promise.all(others.map(async (user) => create(user, 'Free')))
  const release = await postgres.hold(
    `select from todo_api.tasks where id = ${locked.id} for update`,
  )
  const blocked = server.request<TaskBody>('PATCH', `/api/tasks/${locked.id}/complete`, alice)
  await eventually('it waits', async () => (await postgres.waiting()) === 1)
  const toggles = await Promise.all(
    [free, ...tasks].map(async ({ id }, index) =>
      server.request<TaskBody>('PATCH', `/api/tasks/${id}/complete`, [alice!, ...others][index]),
    ),
  )
  expect(toggles.map(({ status, body }) => [status, body.completed])).toEqual(
    Array.from({ length: 20 }, () => [200, true]),
  )
  expect(await postgres.waiting()).toBe(1)
  await release()
  const { status, body } = await blocked
  expect([status, body.completed, body.version]).toEqual([200, true, 2])
})

test('users whose tasks are locked leave connections to everybody else', async () => {
  const blockedUsers = await newUsers(12)
  const modest = await newUsers(12)
  const locked = await Promise.all(blockedUsers.map(async (user) => create(user, 'Locked')))
  const release = await postgres.hold(
    `select from todo_api.tasks where id in (${locked.map(({ id }) => id).join()}) for update`,
  )
  const blocked = locked.flatMap(({ id }, index) =>
    [1, 2, 3].map(async () =>
      server.request<TaskBody>('PATCH', `/api/tasks/${id}/complete`, blockedUsers[index]),
    ),
  )
  await eventually('some wait', async () => (await postgres.waiting()) > 1)
  const tasks = await Promise.all(modest.map(async (user) => create(user, 'Not locked')))
  const lists = await Promise.all(
    modest.map(async (user) => server.request<TaskBody[]>('GET', '/api/tasks', user)),
  )
  expect(lists.map(({ body }) => body)).toEqual(tasks.map((task) => [task]))
  await release()
  const answers = await Promise.all(blocked)
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  expect(new Set(answers.map(({ body }) => `${body.id} ${body.version}`)).size).toBe(answers.length)
})

test('users whose tasks are locked leave room for the bulk requests and reads of others', async () => {
  const blockedUsers = await newUsers(10)
  const modest = await newUsers(6)
  const locked = await Promise.all(blockedUsers.map(async (user) => create(user, 'Locked')))
  const release = await postgres.hold(
    `select from todo_api.tasks where id in (${locked.map(({ id }) => id).join()}) for update`,
  )
  const blocked = locked.flatMap(({ id }, index) => [
    server.request('PATCH', `/api/tasks/${id}/complete`, blockedUsers[index]),
    server.request('POST', '/api/tasks/bulk', {
      ...blockedUsers[index]!,
      json: { operations: [{ op: 'complete', id }] },
    }),
  ])
  await eventually('some wait', async () => (await postgres.waiting()) > 2)
  const operations = [{ op: 'create', data: { title: 'In bulk' } }]
  const bulks = await Promise.all(
    modest.map(async (user) =>
      server.request('POST', '/api/tasks/bulk', { ...user, json: { operations } }),
    ),
  )
  const lists = await Promise.all(
    modest.map(async (user) => server.request<TaskBody[]>('GET', '/api/tasks', user)),
  )
  expect(bulks.map(({ status }) => status)).toEqual(modest.map(() => 200))
  expect(lists.map(({ body }) => body.map(({ title }) => title))).toEqual(
    modest.map(() => ['In bulk']),
  )
  expect(await postgres.waiting()).toBeGreaterThan(2)
  await release()
  for (const { status } of await Promise.all(blocked)) expect(status).toBe(200)
})

test('a locked list keeps no other user waiting', async () => {
  const [alice, ...others] = await newUsers(12)
  const task = await create(alice!, 'In a locked list')
  const tasks = await Promise.all(others.map(async (user) => create(user, 'In another list')))
  const release = await postgres.hold(
    `select from todo_api.task_lists where user_id = '${alice!.id}' for update`,
  )
  const blocked = server.request<TaskBody>('PATCH', `/api/tasks/${task.id}/complete`, alice)
  const toggles = await Promise.all(
    tasks.map(async ({ id }, index) =>
      server.request<TaskBody>('PATCH', `/api/tasks/${id}/complete`, others[index]),
    ),
  )
  expect(toggles.map(({ status, body }) => [status, body.completed])).toEqual(
    tasks.map(() => [200, true]),
  )
  await eventually('it waits', async () => (await postgres.waiting()) === 1)
  await release()
  expect((await blocked).body).toMatchObject({ completed: true, version: 2 })
})

/** Has the rows of many users held, each of whom sends something; meanwhile, somebody else goes on. */
async function whileHeld(
  count: number,
  rows: (tasks: TaskBody[], users: User[]) => string,
  send: (task: TaskBody, user: User) => Promise<unknown>,
  goOn: (user: User, task: TaskBody) => Promise<void>,
): Promise<void> {
  const [free, ...users] = await newUsers(count + 1)
  const [freeTask, ...tasks] = await Promise.all(
    [free!, ...users].map(async (user) => create(user, 'Before')),
  )
  const release = await postgres.hold(`select from ${rows(tasks, users)} for update`)
  const sent = tasks.map(async (task, index) => send(task, users[index]!))
  await eventually('some wait', async () => (await postgres.waiting()) > 0)
  try {
    await goOn(free!, freeTask!)
    expect(await Promise.race([...sent, 'all wait'])).toBe('all wait')
  } finally {
    await release()
    await Promise.all(sent)
  }
}

const ofTasks = (tasks: TaskBody[]) =>
  `todo_api.tasks where id in (${tasks.map(({ id }) => id).join()})`
const ofLists = (_: TaskBody[], users: User[]) =>
  `todo_api.task_lists where user_id in (${users.map(({ id }) => `'${id}'`).join()})`

async function toggleInBulk({ id }: TaskBody, user: User) {
  const json = { operations: [{ op: 'complete', id }] }
  return server.request('POST', '/api/tasks/bulk', { ...user, json })
}

async function toggle({ id }: TaskBody, user: User) {
  return server.request('PATCH', `/api/tasks/${id}/complete`, user)
}

// So many that the others would not be answered within the deadline if each was waited for.
test.each([
  ['tasks', 'bulk requests', ofTasks, toggleInBulk],
  ['lists', 'bulk requests', ofLists, toggleInBulk],
  ['lists', 'writes', ofLists, toggle],
] as const)('a crowd whose %s are locked keeps no other user’s %s waiting', async (...way) => {
  const [, , rows, send] = way
  await whileHeld(150, rows, send, async (user, task) => {
    for (const answer of await Promise.all([toggleInBulk(task, user), toggle(task, user)]))
      expect(answer.status).toBe(200)
  })
})

test.each([
  ['write', toggle],
  ['bulk request', toggleInBulk],
] as const)('a %s is made once its task is free, however many others wait', async (_, send) => {
  await whileHeld(8, ofTasks, send, async (user, task) => {
    await eventually('those who may wait do', async () => (await postgres.waiting()) > 1)
    const release = await postgres.hold(`select from ${ofTasks([task])} for update`)
    const sent = send(task, user)
    await eventually(
      'it has to wait',
      async () => (await postgres.waiting({ longerThan: 700 })) > 1,
    )
    await release()
    expect((await sent).status).toBe(200)
  })
})

test('a write that the database refuses spoils none of those it went with', async () => {
  const users = await newUsers(40)
  const tasks = await Promise.all(users.map(async (user) => create(user, 'Once')))
  const badDate = { due_date: '0001-01-01', due_time: '00:00', due_timezone: 'Asia/Tokyo' }
  const answers = await Promise.all(
    tasks.map(async ({ id }, index) =>
      server.request<TaskBody>('PUT', `/api/tasks/${id}`, {
        ...users[index]!,
        json: index % 10 === 3 ? badDate : { title: `Changed by ${index}` },
      }),
    ),
  )
  expect(answers.map(({ status }) => status)).toEqual(
    answers.map((_, index) => (index % 10 === 3 ? 422 : 200)),
  )
  const rows = await postgres.admin<{ title: string; version: number }[]>`
    select title, version::int as version from todo_api.tasks
    where id in ${postgres.admin(tasks.map(({ id }) => id))} order by id`
  const titles = tasks.map(({ id }, index) => ({
    id,
    title: index % 10 === 3 ? 'Once' : `Changed by ${index}`,
  }))
  expect(rows.map(({ title }) => title)).toEqual(
    titles.toSorted((one, other) => one.id - other.id).map(({ title }) => title),
  )
})

test('writes of one user at once get numbers of their own, and their statements are few', async () => {
  const alice = (await newUsers(1))[0]!
  await create(alice, 'There is a list')
  const before = await transactions()
  const answers = await Promise.all(
    Array.from({ length: 300 }, async (_, index) => create(alice, `Task ${index}`)),
  )
  const rows = await postgres.admin<{ id: number; change: number; title: string }[]>`
    select id::int as id, change::int as change, title from todo_api.tasks where user_id = ${alice.id} order by change`
  expect(new Set(rows.map(({ change }) => change)).size).toBe(301)
  expect(rows.slice(1).map(({ id, title }) => `${id} ${title}`)).toEqual(
    answers.toSorted((one, other) => one.id - other.id).map(({ id, title }) => `${id} ${title}`),
  )
  await eventually('the sessions have told', async () => (await transactions()) > before)
  expect((await transactions()) - before).toBeLessThan(150)
})

test('a database 2 ms away is asked by few statements, and each request has its own answer', async () => {
  const proxy = await startProxy(postgres.port)
  proxy.become('delayed', 1)
  const distant = await startServer(
    databaseUrl({ ...postgres, port: proxy.port }, 'sslmode=require'),
  )
  const users = await newUsers(64)
  const before = await transactions()
  const counts = await Promise.all(
    users.map(async (user, index) => {
      const ask = async (method: string, path: string, json?: object) =>
        distant.request<TaskBody>(method, path, { ...user, ...(json && { json }) })
      const { status, body } = await ask('POST', '/api/tasks', { title: `Of ${index}` })
      expect([status, body.title]).toEqual([201, `Of ${index}`])
      const path = `/api/tasks/${body.id}`
      const toggled = await ask('PATCH', `${path}/complete`)
      expect(toggled.body).toMatchObject({ id: body.id, completed: true, version: 2 })
      const changed = await ask('PUT', path, { title: `Still of ${index}` })
      expect(changed.body).toMatchObject({ id: body.id, title: `Still of ${index}`, version: 3 })
      expect((await ask('GET', path)).body).toEqual(changed.body)
      expect((await ask('GET', '/api/tasks')).body).toEqual([changed.body] as never)
      return 5
    }),
  )
  const requests = counts.reduce((sum, count) => sum + count)
  await eventually('the sessions have told', async () => (await transactions()) > before)
  expect((await transactions()) - before).toBeLessThan(requests / 2)
  await distant.end()
  proxy.close()
})

/** One user's own view: they know what each of their requests must be answered with. */
async function live(user: User, steps: number): Promise<number> {
  const mine = new Map<number, TaskBody>()
  let checked = 0
  async function ask<Body>(method: string, path: string, json?: object) {
    const at = servers[Math.floor(Math.random() * servers.length)]!
    return at.request<Body>(method, path, { token: user.token, ...(json && { json }) })
  }
  for (let step = 0; step < steps; step += 1) {
    const ids = [...mine.keys()]
    const id = ids[Math.floor(Math.random() * ids.length)]
    const kind = id === undefined ? 'create' : kinds[Math.floor(Math.random() * kinds.length)]!
    const task = mine.get(id!)!
    const title = `${user.id} ${step}`
    const { status, body, text } =
      kind === 'create'
        ? await ask<TaskBody>('POST', '/api/tasks', { title })
        : kind === 'update'
          ? await ask<TaskBody>('PUT', `/api/tasks/${id}`, { title })
          : kind === 'toggle'
            ? await ask<TaskBody>('PATCH', `/api/tasks/${id}/complete`)
            : kind === 'delete'
              ? await ask<TaskBody>('DELETE', `/api/tasks/${id}`)
              : await ask<TaskBody>('GET', kind === 'list' ? '/api/tasks' : `/api/tasks/${id}`)
    checked += 1
    if (kind === 'create') {
      expect([status, body.title, body.version, mine.has(body.id)]).toEqual([201, title, 1, false])
      mine.set(body.id, body)
    } else if (kind === 'delete') {
      expect([status, text]).toEqual([204, ''])
      mine.delete(id!)
    } else if (kind === 'list') {
      expect(body as unknown).toEqual(
        [...mine.values()].toSorted((one, other) => one.id - other.id),
      )
    } else {
      const { updated_at, completed_at, ...rest } = body
      const expected = {
        ...task,
        ...(kind === 'update' && { title }),
        ...(kind === 'toggle' && { completed: !task.completed }),
        version: task.version + (kind === 'read' ? 0 : 1),
      }
      expect(status).toBe(200)
      expect({ ...expected, updated_at, completed_at }).toEqual({
        ...rest,
        updated_at,
        completed_at,
      })
      expect(completed_at !== null).toBe(rest.completed)
      mine.set(id!, body)
    }
  }
  return checked
}

const kinds = [
  'create',
  'update',
  'update',
  'toggle',
  'toggle',
  'read',
  'read',
  'list',
  'delete',
] as const

test('thousands of requests at once, on two servers, are each answered with their own answer', async () => {
  const users = await newUsers(60)
  const before = await deadlocks()
  const checked = await Promise.all(users.map(async (user) => live(user, 60)))
  expect(checked.reduce((sum, count) => sum + count, 0)).toBe(3_600)
  expect(await deadlocks()).toBe(before)
}, 120_000)
