import { $ } from 'bun'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Database } from '../db/pool.ts'
import { Fragment, type Query } from '../db/sql.ts'
import { createTaskList } from '../tasks/list/list.ts'
import { createTaskStore } from '../tasks/store.ts'
import { newestPrograms } from '../tests/support/postgres.ts'
import type { BenchDatabase } from './database.ts'
import { costOf } from './measure.ts'
import { tasksPerUser, usersCount } from './work.ts'

/** How often PostgreSQL can run what a work asks of it, without a server in between. */
export type Limit = { transactionsPerSecond: number; postgresCpu: number }

const user = 'user-500'
const writer = 'writer-1'
const id = 9_990 // one of that user's, and no other number that is sent
const connections = 10 // as many as a server has

/** The statements that this server sends for each work, by the work's name, as its store sends them. */
async function statements(database: Database): Promise<Record<string, Fragment>> {
  let sent = new Fragment([''], [])
  const queryRecorded: Query = async (strings, ...parameters) => {
    sent = new Fragment(strings, parameters)
    return database.query(strings, ...parameters)
  }
  const recorder = { ...database, queryFor: () => queryRecorded, queryWithin: () => queryRecorded }
  const store = createTaskStore(recorder, { maxTasksPerUser: 10_000 })
  const list = createTaskList(recorder)
  const recorded: Record<string, Fragment> = {}
  async function record(work: string, run: () => Promise<unknown>): Promise<void> {
    await run()
    recorded[work] = sent
  }
  await record('list of 20, read anew', async () => list(user, {}, undefined))
  await record('list of 20', async () => list(user, {}, undefined))
  await record('list, unchanged', async () => list(user, {}, () => true))
  await record('one task', async () => store.find(user, id))
  await record('create', async () =>
    store.create(
      writer,
      {
        title: 'Call the plumber',
        description: 'The tap in the kitchen drips, and the one in the bathroom does not open.',
        priority: 'high',
        tags: ['home', 'urgent'],
        due_date: '2030-05-17',
      },
      {},
    ),
  )
  await record('update', async () =>
    store.update(user, id, { title: 'A new title', priority: 'low' }, {}),
  )
  await record('toggle', async () => store.toggle(user, id, {}))
  return recorded
}

function literal(value: unknown): string {
  if (value === null) return 'null'
  if (typeof value !== 'string') return JSON.stringify(value)
  const text = value
    .replaceAll("'", "''")
    // To pgbench, :0 and :true are variables, even inside a text.
    .replaceAll(':', "' || chr(58) || '")
    .replaceAll(user, "user-' || :who || '")
    .replaceAll(writer, "writer-' || :who || '")
    .replaceAll(String(id), "' || :id || '")
  return `('${text}')`
}

/** As pgbench takes it: for a user and a task of theirs that are drawn each time. */
function scriptOf({ texts, values }: Fragment): string {
  const sql = texts
    // It becomes one line, which a comment would end; and to pgbench, :MI is a variable, even inside a text.
    .map((text) => text.replace(/--.*$/gm, ''))
    .map((text) => text.replace(/(?<=[A-Z0-9]):(?=[A-Z])/g, "' || chr(58) || '"))
    .reduce((all, text, index) => all + literal(values[index - 1]) + text)
    .replace(/\s+/g, ' ')
  return `\\set who random(1, ${usersCount})
\\set id (:who - 1) * ${tasksPerUser} + random(1, ${tasksPerUser})
${sql};
`
}

/** The limit of each work, by its name, measured with pgbench. */
export async function measureLimits(
  database: BenchDatabase,
  seconds: number,
): Promise<Record<string, Limit>> {
  const pgbench = join(await newestPrograms(), 'pgbench')
  const address = database.addresses.ours.replace(/\?.*/, '')
  const options = ['-n', '-M', 'prepared', '-c', String(connections), '-T', String(seconds)]
  const file = join(tmpdir(), 'limit.sql')
  const limits: Record<string, Limit> = {}
  // A look-up names the place that one user's list is at; it is to be that of all.
  await database.ours.query`
    update todo_api.task_lists set counter = (select max(counter) from todo_api.task_lists)`
  for (const [work, statement] of Object.entries(await statements(database.ours))) {
    await Bun.write(file, scriptOf(statement))
    const { requests, cpu } = await costOf([database.pid], async () => {
      const run = await $`${pgbench} ${options} -f ${file} ${address}`.quiet().nothrow()
      const count = Number(/transactions actually processed: (\d+)/.exec(run.text())?.[1])
      if (run.exitCode !== 0 || !(count > 0))
        throw new Error(`pgbench, ${work}: ${run.stderr.toString() || run.text()}`)
      return { requests: count }
    })
    limits[work] = { transactionsPerSecond: requests / seconds, postgresCpu: cpu[0]! }
    await database.tidy()
  }
  return limits
}
