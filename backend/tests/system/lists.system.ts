import { afterAll, describe, expect, test } from 'bun:test'
import { parseDatabaseUrl } from '../../db/address.ts'
import { migrate } from '../../db/migrate.ts'
import { connect, type Database } from '../../db/pool.ts'
import { createKeyVerifier } from '../../keys/verifier.ts'
import { createTickets } from '../../sync/tickets.ts'
import { createTaskStore } from '../../tasks/store.ts'
import { createTaskList } from '../../tasks/list/list.ts'
import type { ListQuery, TaskChanges } from '../../tasks/schemas.ts'
import { newUser, startApi, type Answer, type TaskBody } from '../support/api.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres({ autovacuum: 'off' })
const oneConnection = databaseUrl(postgres, 'sslmode=require&max=1')
const database = connect(parseDatabaseUrl(oneConnection))
await migrate(database)
afterAll(async () => {
  await database.close()
  await postgres.close()
})

async function prepared(): Promise<number> {
  const [row] = await database.query<{ count: number }>`
    select count(*) as count from pg_prepared_statements`
  return row!.count
}

/** The sets that can be made of some things. */
function subsetsOf<Item>(items: readonly Item[]): Item[][] {
  return items.reduce<Item[][]>(
    (sets, item) => [...sets, ...sets.map((set) => [...set, item])],
    [[]],
  )
}

describe('prepared statements on a connection', () => {
  test('lists of every kind need few of them', async () => {
    const list = createTaskList(database)
    const { id } = await newUser()
    const parts: ListQuery[] = [
      { status: 'pending' },
      { priority: 'high' },
      { tag: ['a', 'b'] },
      { q: 'one two three' },
      { due_from: '2026-01-01' },
      { due_to: '2026-12-31', tz: 'Europe/Paris' },
      { overdue: 'true' },
      { limit: 10 },
    ]
    const asked = subsetsOf(parts).map((set): ListQuery => Object.assign({}, ...set))
    const words = Array.from({ length: 20 }, (_, length): ListQuery => ({
      q: Array.from({ length }, (__, word) => `w${word}`).join(' '),
      tag: Array.from({ length }, (__, tag) => `t${tag}`),
    }))
    for (const sort of ['created', '-title', 'due_date'] as const)
      for (const query of [...asked, ...words]) await list(id, { ...query, sort }, undefined)
    expect(await prepared()).toBeLessThanOrEqual(20)
  })

  test('are limited however many kinds of change there are', async () => {
    const store = createTaskStore(database, { maxTasksPerUser: 100 })
    const { id: user } = await newUser()
    const created = await store.create(user, { title: 'a' }, {})
    const fields: TaskChanges[] = [
      { title: 'b' },
      { description: 'c' },
      { completed: true },
      { priority: 'low' },
      { tags: ['d'] },
      { due_date: '2026-03-01' },
      { due_time: '09:30' },
      { due_timezone: 'UTC' },
    ]
    for (const set of subsetsOf(fields).slice(1)) {
      const changes: TaskChanges = Object.assign({}, ...set)
      const precondition = 'any version'
      if (
        changes.due_date === undefined &&
        (changes.due_time ?? changes.due_timezone) !== undefined
      )
        changes.due_date = '2026-03-02'
      await store.update(user, created.id, changes, {})
      await store.update(user, created.id, changes, { precondition })
      await store.update(user, created.id, changes, {
        idempotency: { key: crypto.randomUUID(), request: '' },
      })
    }
    expect(await prepared()).toBeLessThanOrEqual(256)
    const [task] = await database.query<{ version: number }>`
      select version from todo_api.tasks where user_id = ${user}`
    expect(task!.version).toBeGreaterThan(500)
  })
})

describe('a statement that several users share', () => {
  /** A list, with the rows of its shared statements and the users for whom it read at their own turns. */
  function watched() {
    const shared: { json: string | null; total: number }[][] = []
    const own: string[] = []
    const over: Database = {
      ...database,
      queryWithin: (milliseconds, requests) => {
        const query = database.queryWithin(milliseconds, requests)
        return async function queryShared<Row extends object>(
          ...asked: Parameters<typeof query>
        ): Promise<Row[]> {
          const rows = await query<Row>(...asked)
          shared.push(rows as unknown as { json: string | null; total: number }[])
          return rows
        }
      },
      queryFor: (user) => {
        own.push(user)
        return database.queryFor(user)
      },
    }
    return { shared, own, list: createTaskList(over) }
  }

  async function userWith(tasks: number, { description = 'x', trashed = 0 } = {}): Promise<string> {
    const { id } = await newUser()
    await database.query`
      insert into todo_api.task_lists (user_id, counter, task_count)
      values (${id}, ${tasks + trashed}, ${tasks})`
    await database.query`
      insert into todo_api.tasks (user_id, change, created_change, title, description, deleted_at)
      select ${id}, number, number, 'Task ' || number, ${description},
        case when number <= ${trashed}::int then now() end
      from generate_series(1, ${tasks + trashed}::int) number`
    return id
  }

  test('reads small lists, all of them at once', async () => {
    const { shared, own, list } = watched()
    const users = await Promise.all(Array.from({ length: 20 }, async () => userWith(20)))
    const pages = await Promise.all(users.map(async (user) => list(user, {})))
    for (const page of pages) expect(page).toMatchObject({ state: 'changed', total: 20 })
    // The first went at once, and the others together.
    expect(shared.map((rows) => rows.length)).toEqual([1, 19])
    expect(own).toEqual([])
  })

  test.each([
    ['many tasks', 1_000, {}],
    ['much text', 90, { description: '😀'.repeat(1_000) }],
    ['a few tasks beyond a large trash', 20, { trashed: 2_000 }],
  ])('reads nothing of a list with %s: that is read at its user’s turn', async (_, tasks, more) => {
    const { shared, own, list } = watched()
    const [greedy, modest] = [await userWith(tasks, more), await userWith(20)]
    const everybody = [greedy, modest, greedy, greedy, modest]
    for (let round = 0; round < 3; round += 1) {
      const pages = await Promise.all(everybody.map(async (user) => list(user, {})))
      expect(pages.map((page) => page.state === 'changed' && page.total)).toEqual(
        everybody.map((user) => (user === greedy ? tasks : 20)),
      )
      for (const user of [greedy, modest])
        await database.query`update todo_api.task_lists set counter = counter + 1 where user_id = ${user}`
    }
    for (const { json } of shared.flat())
      expect(json === null || json.length < 64 * 1024).toBe(true)
    expect(shared.flat().filter(({ total }) => total > 100)).toEqual([])
    expect(new Set(own)).toEqual(new Set([greedy]))
  })
})

describe('a role with settings of its own', () => {
  const settings = {
    DateStyle: "'SQL, DMY'",
    // Writes instants with IST, which PostgreSQL reads as Israel's.
    TimeZone: "'Asia/Kolkata'",
    IntervalStyle: "'sql_standard'",
    extra_float_digits: '-15',
  }

  test('reads the same tasks, pages to the end, and takes tickets', async () => {
    const usual = startApi({ over: database })
    const user = await newUser()
    const tasks = Array.from({ length: 12 }, (_, index) => ({
      title: `Task ${index % 5} ${'ß😀"\\'.repeat(index)}`,
      priority: ['none', 'low', 'medium', 'high'][index % 4],
      completed: index % 5 === 0,
      ...(index % 3 > 0 && { due_date: `2026-0${1 + (index % 7)}-05` }),
      ...(index % 3 > 1 && { due_time: '09:30', due_timezone: 'Europe/Paris' }),
    }))
    for (const json of [...tasks, { title: 'last', due_date: '9999-12-31' }])
      expect((await usual.request('POST', '/api/tasks', { token: user.token, json })).status).toBe(
        201,
      )
    for (const [name, value] of Object.entries(settings))
      await postgres.admin.unsafe(`alter role ${owner.name} set ${name} = ${value}`)
    const over = connect(parseDatabaseUrl(databaseUrl(postgres, 'sslmode=require&max=2')))
    const api = startApi({ over })
    try {
      const [style] = await over.query<{ style: string }>`
        select current_setting('DateStyle') || current_setting('TimeZone') as style`
      expect(style!.style).toBe('SQL, DMYAsia/Kolkata')
      for (const key of ['created', 'updated', 'title', 'due_date', 'priority'])
        for (const sort of [key, `-${key}`]) {
          const whole = await usual.request<TaskBody[]>('GET', `/api/tasks?sort=${sort}`, user)
          const same = await api.request<TaskBody[]>('GET', `/api/tasks?sort=${sort}`, user)
          expect(same.text).toBe(whole.text)
          const seen: TaskBody[] = []
          let next: string | undefined = `/api/tasks?sort=${sort}&limit=2`
          for (let page = 0; page < 20 && next !== undefined; page += 1) {
            const answer: Answer<TaskBody[]> = await api.request<TaskBody[]>('GET', next, user)
            expect(answer.status).toBe(200)
            seen.push(...answer.body)
            next = /^<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1]
          }
          expect([sort, seen.map(({ id }) => id)]).toEqual([sort, whole.body.map(({ id }) => id)])
        }
      const { body } = await usual.request<TaskBody[]>('GET', '/api/tasks', user)
      await usual.request('DELETE', `/api/tasks/${body[0]!.id}`, user)
      for (const path of [
        '/api/tasks/trash',
        '/api/tasks/changes',
        '/api/tasks?due_from=2026-02-04&due_to=2026-04-05',
      ]) {
        const [one, other] = [
          await usual.request('GET', path, user),
          await api.request('GET', path, user),
        ]
        expect(other.text).toBe(one.text)
      }
      const tickets = createTickets(over, createKeyVerifier(over))
      const expires = 1_800_000_123
      const ticket = await tickets.issue({ userId: user.id, expires })
      expect(await tickets.redeem(ticket)).toEqual({ userId: user.id, expires })
    } finally {
      await postgres.admin.unsafe(`alter role ${owner.name} reset all`)
      await api.stop()
      await usual.stop()
      await over.close()
    }
  })
})

describe('the longest search in the most text', () => {
  const most = 10_000 // tasks

  test.each([
    ['ß in ß', 'ß'.repeat(200), 'ß'.repeat(1000)],
    ['ß in ss', 'ß'.repeat(200), 'ss'.repeat(500)],
    [
      'a word that repeats itself, in a text that nearly does',
      'a'.repeat(200),
      `${'a'.repeat(199)}b`.repeat(5),
    ],
    ['marks in marks', '\u0301\u0302'.repeat(100), '\u0302\u0301'.repeat(500)],
    [
      'twenty words',
      Array.from({ length: 19 }, (_, index) => 'a'.repeat(index + 1)).join(' '),
      'a'.repeat(1000),
    ],
  ])('is answered within a second and a half: %s', async (_, q, text) => {
    const { id } = await newUser()
    await database.query`
      insert into todo_api.tasks (user_id, title, description, change)
      select ${id}, 'x', ${text}, n from generate_series(1, ${most}::int) n`
    const list = createTaskList(database)
    await list(id, { q: 'a', limit: 1 }, undefined)
    const start = performance.now()
    await list(id, { q, limit: 50 }, undefined)
    expect(performance.now() - start).toBeLessThan(1_500)
  })
})
