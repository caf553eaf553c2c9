import { afterAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { parseDatabaseUrl } from '../../db/address.ts'
import { connect } from '../../db/connect.ts'
import { migrate } from '../../db/migrate.ts'
import { ApiError } from '../../errors.ts'
import { createTaskStore } from '../../tasks/store.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'

// PostgreSQL itself tells how it ran every statement that the store sends.
const postgres = await startPostgres({
  shared_preload_libraries: 'auto_explain',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_format': 'json',
  logging_collector: 'on',
  log_destination: 'jsonlog',
  log_filename: 'plans',
  autovacuum: 'off',
})
const logFile = join(postgres.directory, 'data/log/plans.json')
const oneConnection = databaseUrl(postgres, 'sslmode=require&max=1')
const database = connect(parseDatabaseUrl(oneConnection))
const store = createTaskStore(database)
afterAll(async () => {
  await database.close()
  await postgres.close()
})

const users = 1_000
const tasksOfEach = 100
const owner = 'user-500'

await migrate(database)
// As it is after a while of use: the tasks of each user lie among everybody's.
await postgres.admin.unsafe(`
  insert into tasks (user_id, title, completed, created_at)
  select 'user-' || n % ${users}, 'Task ' || n, n % 3 = 0, now() - interval '1 day' + n * interval '1 ms'
  from generate_series(1, ${users * tasksOfEach}) n`)
await postgres.admin.unsafe('vacuum analyze tasks')
const mine = await store.list(owner, 'all')
const others = await store.list('user-501', 'all')

type Node = {
  'Node Type': string
  'Relation Name'?: string
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  'Rows Removed by Index Recheck'?: number
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
    (node['Rows Removed by Index Recheck'] ?? 0)
  return rows * node['Actual Loops']
}

const changes = { title: 'Changed', description: 'new', completed: true }
const actions: [string, number, (round: number) => Promise<unknown>][] = [
  ['listing all', tasksOfEach, async () => store.list(owner, 'all')],
  ['listing what is pending', tasksOfEach, async () => store.list(owner, 'pending')],
  ['listing what is completed', tasksOfEach, async () => store.list(owner, 'completed')],
  ['finding', 1, async () => store.find(owner, mine[0]!.id)],
  ['finding somebody else’s', 1, async () => store.find(owner, others[0]!.id)],
  ['finding nobody’s', 1, async () => store.find(owner, 999_999_999)],
  ['updating', 1, async () => store.update(owner, mine[0]!.id, changes)],
  ['updating somebody else’s', 1, async () => store.update(owner, others[0]!.id, changes)],
  ['toggling', 1, async () => store.toggle(owner, mine[0]!.id)],
  ['removing', 1, async (round) => store.remove(owner, mine[round]!.id)],
  ['removing somebody else’s', 1, async () => store.remove(owner, others[0]!.id)],
]

test.each(actions)('%s reads %d rows at most, by an index', async (_, most, act) => {
  // PostgreSQL may change a prepared statement's plan after five uses.
  for (let round = 1; round <= 8; round += 1) {
    const nodes = await explain(async () => act(round))
    const scans = nodes.filter((node) => node['Node Type'].endsWith('Scan'))
    expect(scans).not.toBeEmpty()
    for (const scan of scans) {
      expect(scan['Node Type']).toMatch(/^(Index|Bitmap)/)
      expect(rowsRead(scan)).toBeLessThanOrEqual(most)
    }
  }
})
