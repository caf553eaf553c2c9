import { afterAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { taskColumns } from '../../tasks/columns.ts'
import { database, newUser, startApi, type TaskBody } from '../support/api.ts'
import { repository } from '../support/server.ts'

const api = startApi()
afterAll(api.stop)

async function newTask() {
  const { id: owner, token } = await newUser()
  const json = { title: 'Counted' }
  const { body } = await api.request<TaskBody>('POST', '/api/tasks', { token, json })
  return { owner, token, id: body.id }
}

/** Runs an example of CONTRIBUTING's as it is written there. */
async function runExample(
  text: string,
  values: { owner: string; id: number },
): Promise<TaskBody[]> {
  const parts = text.split(/\$\{(\w+)\}/)
  const named = { ...values, columns: taskColumns(database) }
  const { sql, values: bound } = database.fragment(
    Object.assign(
      parts.filter((_, index) => index % 2 === 0),
      { raw: [] },
    ),
    ...parts.filter((_, index) => index % 2 === 1).map((name) => named[name as keyof typeof named]),
  )
  return database.queryFor(values.owner)<TaskBody>(
    Object.assign(sql.split(/\$\d+/), { raw: [] }),
    ...bound,
  )
}

test('the example of a good write in CONTRIBUTING counts, and followers hear of it', async () => {
  const { owner, token, id } = await newTask()
  const changes = async (query = '') =>
    api.request<{ items: TaskBody[]; sync_token: string }>('GET', `/api/tasks/changes${query}`, {
      token,
    })
  const before = (await changes()).body.sync_token
  const guide = await Bun.file(join(repository, 'CONTRIBUTING.md')).text()
  const section = guide.slice(guide.indexOf('### A change is one SQL statement'))
  const [, good = ''] = /\/\/ Good\nawait queryFor\(owner\)`([^`]+)`/.exec(section) ?? []
  const [written] = await runExample(good, { owner, id })
  expect(written).toMatchObject({ id, completed: true, version: 2 })
  expect((await changes(`?since=${before}`)).body.items).toEqual([
    expect.objectContaining({ id, completed: true, version: 2 }),
  ])
})

const list = (owner: string) => `
  with list as (update todo_api.task_lists set counter = counter + 1 where user_id = '${owner}' returning counter)`
type Place = { owner: string; id: number }
const uncounted: [string, (place: Place) => string][] = [
  ['neither', ({ id }) => `update todo_api.tasks set title = 'x' where id = ${id}`],
  [
    'only its version',
    ({ id }) => `update todo_api.tasks set title = 'x', version = version + 1 where id = ${id}`,
  ],
  [
    'only its list',
    ({ owner, id }) =>
      `${list(owner)} update todo_api.tasks set title = 'x', change = counter from list where id = ${id}`,
  ],
  [
    'a number that its list did not give out',
    ({ owner, id }) =>
      `${list(owner)} update todo_api.tasks set title = 'x', version = version + 1, change = counter + 1 from list where id = ${id}`,
  ],
  [
    'one number for two tasks',
    ({ owner }) =>
      `${list(owner)} insert into todo_api.tasks (user_id, title, change) select '${owner}', 'x', counter from list, generate_series(1, 2)`,
  ],
  ['no deletion', ({ id }) => `delete from todo_api.tasks where id = ${id}`],
]

test.each(uncounted)('a write that counts %s is refused here', async (_, write) => {
  const task = await newTask()
  const rows = async () =>
    database.query`select * from todo_api.tasks where user_id = ${task.owner}`
  const before = await rows()
  const sql = `do $$ begin ${write(task)}; end $$`
  await expect(database.query(Object.assign([sql], { raw: [] }))).rejects.toMatchObject({
    constraint: 'every_write_to_tasks_counts',
  })
  expect(await rows()).toEqual(before)
})

test('a list counts what was done, and nothing that was refused at the same moment', async () => {
  const { owner, token } = await newTask()
  const json = { title: 'Another' }
  const ids = await Promise.all(
    Array.from({ length: 40 }, async () => {
      const { body } = await api.request<TaskBody>('POST', '/api/tasks', { token, json })
      return body.id
    }),
  )
  const statuses = await Promise.all(
    ids.map(async (id, index) => {
      const headers = { 'if-match': index % 2 === 0 ? '"1"' : '"7"' }
      return (await api.request('PATCH', `/api/tasks/${id}/complete`, { token, headers })).status
    }),
  )
  expect(statuses).toEqual(ids.map((_, index) => (index % 2 === 0 ? 200 : 412)))
  const rows = await database.query<{ counter: number; changes: number }>`
    select counter, (select count(distinct change)::int from todo_api.tasks where user_id = ${owner}) as changes
    from todo_api.task_lists where user_id = ${owner}`
  // One for each task, and one for each that was completed.
  expect(rows).toEqual([{ counter: 61, changes: 41 }])
})
