import { afterAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { parseDatabaseUrl } from '../../db/address.ts'
import { connect } from '../../db/pool.ts'
import { migrate } from '../../db/migrate.ts'
import { ApiError } from '../../http/failures.ts'
import { createFireReminders } from '../../reminders/reminders.ts'
import { createKeyStore } from '../../keys/store.ts'
import { createKeyVerifier } from '../../keys/verifier.ts'
import { createChangeFeed } from '../../sync/changes.ts'
import { tellings } from '../../tasks/bulk.ts'
import { createTaskList } from '../../tasks/list/list.ts'
import { createTaskStore } from '../../tasks/store.ts'
import { createWaitForRows } from '../../tasks/writes/locked.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'

// PostgreSQL itself tells how it ran every statement that the store sends.
const postgres = await startPostgres({
  shared_preload_libraries: 'auto_explain',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_format': 'json',
  'auto_explain.log_nested_statements': 'on', // of functions
  logging_collector: 'on',
  log_destination: 'jsonlog',
  log_filename: 'plans',
  autovacuum: 'off',
})
const logFile = join(postgres.directory, 'data/log/plans.json')
const oneConnection = databaseUrl(postgres, 'sslmode=require&max=1')
const database = connect(parseDatabaseUrl(oneConnection))
const store = createTaskStore(database, { maxTasksPerUser: 100_000 })
/** A list that remembers nothing. */
const list = async (...asked: Parameters<ReturnType<typeof createTaskList>>) =>
  createTaskList(database)(...asked)
const sync = createChangeFeed(database)
const keys = createKeyStore(database)
const whenFree = createWaitForRows(database)
const { verifyKey } = createKeyVerifier(database)
afterAll(async () => {
  await database.close()
  await postgres.close()
})

const users = 1_000
const tasksOfEach = 1_000
const owner = 'user-500'
const tasksOfOwner = 10_000

await migrate(database)
// As it is after a while of use: the tasks of each user lie among everybody's.
await postgres.admin.unsafe(`
  insert into todo_api.tasks (user_id, title, description, completed, created_at, change, priority)
  select
    'user-' || case when n % 100 = 0 then 500 else n % ${users} end, 'Task ' || n, 'about ' || md5(n::text),
    n % 3 = 0, now() - interval '1 day' + n * interval '1 ms', n,
    (array['none', 'low', 'medium', 'high'])[1 + n % 4]::todo_api.task_priority
  from generate_series(1, ${users * tasksOfEach}) n
  where n % ${users} <> 500 or n % 100 = 0`)
await postgres.admin.unsafe(`
  insert into todo_api.task_lists (user_id, counter, task_count)
  select user_id, max(change), count(*) from todo_api.tasks group by user_id`)
await postgres.admin.unsafe(`
  insert into todo_api.deleted_tasks (id, user_id, change, deleted_at)
  select 10000000 + n, 'user-' || n % ${users}, n, now() from generate_series(1, 50000) n`)
await postgres.admin.unsafe(`
  insert into todo_api.personal_keys (user_id, slot, hash, start, name, scope, expires_at)
  select 'user-' || n / 20, 1 + n % 20, md5(n::text), '', '', 'read', now() + interval '90 days'
  from generate_series(20, 20 * ${users} - 1) n`)
await postgres.admin.unsafe(
  'vacuum analyze todo_api.tasks, todo_api.task_lists, todo_api.deleted_tasks, todo_api.personal_keys',
)
const ids = async (user: string) =>
  (
    await postgres.admin.unsafe(
      `select id from todo_api.tasks where user_id = '${user}' order by id limit 30`,
    )
  ).map(({ id }) => Number(id))
const mine = await ids(owner)
const [others] = await ids('user-501')
const page = await list(owner, { limit: 50 }, undefined)

type Node = {
  'Node Type': string
  'Relation Name'?: string
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  'Rows Removed by Index Recheck'?: number
  'Rows Removed by Join Filter'?: number
  Plans?: Node[]
}

/** How PostgreSQL ran the statements of an action: every node of every plan. */
async function explain(action: () => Promise<unknown>): Promise<Node[]> {
  const [begin, end] = [crypto.randomUUID(), crypto.randomUUID()]
  await database.script(`select '${begin}'`, 5_000)
  await action().catch((error: unknown) => {
    if (!(error instanceof ApiError)) throw error
  })
  await database.script(`select '${end}'`, 5_000)
  const messages = await eventually('the plans are logged', async () => {
    const lines = (await Bun.file(logFile).text()).split('\n').slice(0, -1)
    const all = lines.map((line) => (JSON.parse(line) as { message: string }).message)
    const position = (marker: string) => all.findIndex((message) => message.includes(marker))
    return position(end) > 0 && all.slice(position(begin) + 1, position(end))
  })
  return messages
    .filter((message) => message.includes('plan:'))
    .map((message) => JSON.parse(message.slice(message.indexOf('{'))) as { Plan: Node })
    .flatMap(({ Plan }) => withChildren(Plan))
}

function withChildren(node: Node): Node[] {
  return [node, ...(node.Plans ?? []).flatMap(withChildren)]
}

function rowsRead(node: Node): number {
  const rows =
    node['Actual Rows'] +
    (node['Rows Removed by Filter'] ?? 0) +
    (node['Rows Removed by Index Recheck'] ?? 0) +
    (node['Rows Removed by Join Filter'] ?? 0)
  return rows * node['Actual Loops']
}

const changes = { title: 'Changed', description: 'new', completed: true }
const again = { due_date: '2030-05-17', recurrence: 'FREQ=DAILY', completed: true }
const changed = await sync.since(owner, undefined, 50)
const next = page.state === 'changed' ? page.next! : ''
const anyKey = { name: 'x', scope: 'write' } as const
const { key } = await keys.create('somebody', anyKey)
const once = (round: number) => ({
  idempotency: { key: crypto.randomUUID(), request: String(round) },
})

/** What is done, and how many rows of tasks each look at the table may read. */
const actions: [string, number[], (round: number) => Promise<unknown>][] = [
  ['listing all', [tasksOfOwner], async () => list(owner, {}, undefined)],
  ['a page of 50', [52], async () => list(owner, { limit: 50 }, undefined)],
  ['the next page', [52], async () => list(owner, { limit: 50, cursor: next }, undefined)],
  ['the list’s end', [52], async () => list(owner, { limit: 50, sort: '-created' }, undefined)],
  [
    'a page by title',
    [tasksOfOwner],
    async () => list(owner, { limit: 50, sort: 'title' }, undefined),
  ],
  [
    'a page of what is due',
    [tasksOfOwner, 51],
    async () => list(owner, { limit: 50, due_from: '2026-01-01', overdue: 'true' }, undefined),
  ],
  [
    'searching',
    [tasksOfOwner, 51],
    async () => list(owner, { limit: 50, q: 'about abc' }, undefined),
  ],
  [
    'a list that has not changed',
    [],
    async () => list(owner, { limit: 50 }, (tag) => tag === page.tag),
  ],
  ['a page of changes', [51, 51], async () => sync.since(owner, undefined, 50)],
  ['the next changes', [51, 51], async () => sync.since(owner, changed.token, 50)],
  ['opening a stream', [], async () => sync.position(owner)],
  ['events', [101, 101], async () => sync.newsAfter(owner, 1)],
  ['looking for changes', [], async () => sync.behind([{ owner, epoch: '', counter: 1 }])],
  ['the trash', [10], async () => store.trash(owner)],
  ['finding', [1], async () => store.find(owner, mine[0]!)],
  ['finding somebody else’s', [1, 1], async () => store.find(owner, others!)],
  ['finding nobody’s', [0, 0], async () => store.find(owner, 999_999_999)],
  [
    'a newcomer’s first write',
    [0, 0, 0],
    async () => store.create(crypto.randomUUID(), { title: 'First' }, {}),
  ],
  ['updating', [1, 1], async () => store.update(owner, mine[0]!, changes, {})],
  [
    'updating under a key',
    [1, 1],
    async (round) => store.update(owner, mine[0]!, changes, once(round)),
  ],
  [
    'updating a version',
    [1, 1],
    async (round) => store.update(owner, mine[round + 20]!, changes, { precondition: [1] }),
  ],
  [
    'updating a version that is past',
    [1, 1, 1],
    async () => store.update(owner, mine[0]!, changes, { precondition: [1] }),
  ],
  ['updating somebody else’s', [1, 1, 1], async () => store.update(owner, others!, changes, {})],
  ['knowing whose a key is', [], async () => verifyKey(key)],
  ['listing keys', [], async () => keys.list(owner)],
  ['a newcomer’s key', [], async () => keys.create(crypto.randomUUID(), anyKey)],
  [
    'looking whether two tasks are locked',
    [2, 2, 2],
    async () => whenFree({ owner, ids: mine.slice(0, 2) }, 5_000, async () => {}),
  ],
  ['toggling', [1, 1], async () => store.toggle(owner, mine[0]!, {})],
  // Twice: it is noticed that it comes again, and then it is done.
  [
    'completing what comes again',
    [1, 1, 1, 1],
    async (round) => store.update(owner, mine[round + 8]!, again, {}),
  ],
  [
    'taking that back',
    [1, 1, 1, 1, 1],
    async (round) => store.update(owner, mine[round + 8]!, { completed: false }, {}),
  ],
  ['removing', [1, 1], async (round) => store.remove(owner, mine[round]!, {})],
  ['restoring', [1, 1], async (round) => store.restore(owner, mine[round]!, {})],
  ['deleting for good', [1, 1], async (round) => store.destroy(owner, mine[round + 9]!, {})],
  ['removing somebody else’s', [1, 1, 1], async () => store.remove(owner, others!, {})],
]

test.each(actions)('%s reads %j rows at most, by an index', async (_, most, act) => {
  // PostgreSQL may change a prepared statement's plan after five uses.
  for (let round = 1; round <= 8; round += 1) {
    const nodes = await explain(async () => act(round))
    const looks = nodes.filter(
      (node) =>
        node['Relation Name'] !== undefined &&
        node['Relation Name'] !== 'epoch' && // one row
        node['Node Type'].endsWith('Scan'),
    )
    expect(looks).not.toBeEmpty()
    for (const look of looks) {
      expect([look['Relation Name'], look['Node Type']]).toEqual([
        look['Relation Name'],
        expect.stringMatching(/^(Index|Bitmap)/),
      ])
    }
    const read = looks
      .filter((look) => look['Relation Name'] === 'tasks' && look['Actual Loops'] > 0)
      .map(rowsRead)
      .toSorted((a, b) => a - b)
    expect(read.length).toBeLessThanOrEqual(most.length)
    for (const [index, rows] of read.toReversed().entries())
      expect(rows).toBeLessThanOrEqual(most.toSorted((a, b) => b - a)[index]!)
  }
})

test('each reminder that is due is read a few times at most, however many wait', async () => {
  await postgres.admin`
    insert into todo_api.reminders (user_id, task_id, fires_at)
    select user_id, id, now() from todo_api.tasks where user_id = ${owner}`
  const fire = createFireReminders(database)
  for (let round = 1; round <= 8; round += 1) {
    const nodes = await explain(async () => fire(owner))
    const looks = nodes.filter((node) => node['Relation Name'] === 'reminders')
    expect(looks).not.toBeEmpty()
    const read = looks.map(rowsRead).reduce((sum, rows) => sum + rows, 0)
    expect(read).toBeLessThan(2 * tasksOfOwner)
  }
  const [told] = await postgres.admin`
    select count(change)::int, min(change)::int, max(change)::int from todo_api.reminders where user_id = ${owner}`
  expect(told!['count']).toBe(4_000)
  expect(told!['max'] - told!['min']).toBe(3_999)
})

test('each reminder that is due is read a few times at most by plans that were made while next to none waited, too', async () => {
  const name = await postgres.createDatabase()
  const young = connect(
    parseDatabaseUrl(databaseUrl({ port: postgres.port, database: name }, 'sslmode=require&max=1')),
  )
  await migrate(young)
  const admin = postgres.connectAsSuperuser(name)
  await admin.unsafe(`
    insert into todo_api.task_lists (user_id, counter, task_count)
    select 'user-' || n, 0, 0 from generate_series(1, 150) n;
    insert into todo_api.reminders (user_id, task_id, fires_at)
    select 'user-' || n, n, now() from generate_series(1, 150) n;
    analyze todo_api.task_lists, todo_api.reminders`)
  const fire = createFireReminders(young)
  for (let round = 1; round <= 8; round += 1) await fire(`user-${round}`)
  await admin.unsafe(`
    insert into todo_api.reminders (user_id, task_id, fires_at)
    select 'user-1', 1000 + n, now() from generate_series(1, ${tasksOfOwner}) n`)
  for (let round = 1; round <= 8; round += 1) {
    const nodes = await explain(async () => fire('user-1'))
    expect(nodes).not.toBeEmpty()
    expect(Math.max(...nodes.map(rowsRead))).toBeLessThan(2 * tasksOfOwner)
  }
  await admin.end()
  await young.close()
})

test('a look for changes reads no reminders but those of its users, however few others have them all', async () => {
  const name = await postgres.createDatabase()
  const crowded = connect(
    parseDatabaseUrl(databaseUrl({ port: postgres.port, database: name }, 'sslmode=require&max=1')),
  )
  await migrate(crowded)
  const admin = postgres.connectAsSuperuser(name)
  await admin.unsafe(`
    insert into todo_api.reminders (user_id, task_id, fires_at)
    select 'user-' || n % 4, n, now() - interval '1 hour' from generate_series(1, 50000) n;
    analyze todo_api.reminders`)
  const places = Array.from({ length: 50 }, (_, number) => ({
    owner: `nobody-${number}`,
    epoch: '',
    counter: 0,
  }))
  const feed = createChangeFeed(crowded)
  const fire = createFireReminders(crowded)
  for (const look of [async () => feed.behind(places), async () => fire('nobody')])
    for (let round = 1; round <= 8; round += 1) {
      const nodes = await explain(look)
      const read = nodes.filter((node) => node['Relation Name'] === 'reminders').map(rowsRead)
      expect(read).not.toBeEmpty()
      expect(Math.max(...read)).toBeLessThan(100)
    }
  await admin.end()
  await crowded.close()
})

test('plans that were made while the tables were empty go by indexes once they are full', async () => {
  const name = await postgres.createDatabase()
  const young = connect(
    parseDatabaseUrl(databaseUrl({ port: postgres.port, database: name }, 'sslmode=require&max=1')),
  )
  await migrate(young)
  const youngStore = createTaskStore(young, { maxTasksPerUser: 100_000 })
  const youngWhenFree = createWaitForRows(young)
  const { id } = await youngStore.create('alice', { title: 'First' }, {})
  const refused = (error: unknown) => expect(error).toBeInstanceOf(ApiError)
  const bulk = (operation: object) => ({
    owner: 'alice',
    atomic: true,
    operations: [operation],
    tellings,
  })
  const requests: [string, (round: number) => Promise<unknown>][] = [
    ['create', async () => youngStore.create('alice', { title: 'Another' }, {})],
    ['update', async () => youngStore.update('alice', id, changes, {})],
    ['toggle', async () => youngStore.toggle('alice', id, {})],
    ['under a key', async (round) => youngStore.toggle('alice', id, once(round))],
    [
      'looking whether it is locked',
      async () => youngWhenFree({ owner: 'alice', ids: [id] }, 5_000, async () => {}),
    ],
    ['find', async () => youngStore.find('alice', id)],
    ['find nobody’s', async () => youngStore.find('alice', 999_999_999).catch(refused)],
    ['list', async () => createTaskList(young)('alice', {}, undefined)],
    [
      'bulk',
      async () =>
        youngStore.bulk(
          bulk({ operation: { op: 'toggle', id } }) as Parameters<typeof youngStore.bulk>[0],
        ),
    ],
  ]
  for (const [, request] of requests)
    for (let round = 1; round <= 8; round += 1) await request(round)
  const admin = postgres.connectAsSuperuser(name)
  await admin.unsafe(`
    insert into todo_api.tasks (user_id, title, change)
    select 'user-' || n % 1000, 'Task ' || n, n from generate_series(1, 100000) n`)
  await admin.unsafe(`
    insert into todo_api.task_lists (user_id, counter, task_count)
    select user_id, max(change), count(*) from todo_api.tasks where user_id <> 'alice' group by user_id`)
  await admin.unsafe(`
    insert into todo_api.idempotency_keys (user_id, key, request, status, task_id)
    select 'user-' || n % 1000, n, '', 200, n from generate_series(1, 10000) n`)
  for (const [what, request] of requests) {
    const scans = (await explain(async () => request(9)))
      .filter(({ 'Relation Name': relation }) => relation !== undefined && relation !== 'epoch')
      .filter((node) => node['Node Type'].endsWith('Scan') && node['Actual Loops'] > 0)
      .map((node) => `${what}: ${node['Node Type']} on ${node['Relation Name']}`)
    expect(scans.filter((scan) => scan.includes('Seq Scan'))).toEqual([])
  }
  await admin.end()
  await young.close()
})
