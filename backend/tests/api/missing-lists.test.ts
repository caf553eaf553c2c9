import { afterAll, expect, test } from 'bun:test'
import { purge } from '../../tasks/purge.ts'
import {
  database,
  newUser,
  startApi,
  writeUncounted,
  type RequestOptions,
  type TaskBody,
} from '../support/api.ts'

const api = startApi()
afterAll(api.stop)

type Changes = { items: TaskBody[]; deleted: { id: number }[]; sync_token: string }

/** Tasks of somebody who has no list, as SQL by hand or a restore of one table leaves them. */
async function withoutList() {
  const { id: user, token } = await newUser()
  const send = async <Body = TaskBody>(method: string, path = '', options: RequestOptions = {}) =>
    api.request<Body>(method, `/api/tasks${path}`, { token, ...options })
  await writeUncounted(`
    insert into todo_api.tasks (user_id, title, change, deleted_at) values
      ('${user}', 'First', 0, null), ('${user}', 'Second', 0, null), ('${user}', 'Trashed', 7, now())`)
  const rows = await database.query<{ id: number }>`
    select id from todo_api.tasks where user_id = ${user} order by id`
  return { user, send, ids: rows.map(({ id }) => id) }
}

/** The figures that the list has recorded, and those of its tasks. */
async function listOf(user: string) {
  const [found] = await database.query<{
    task_count: number
    live: number
    ahead: boolean
    different: boolean
  }>`
    select
      task_count, (select count(*) from todo_api.tasks where user_id = ${user} and deleted_at is null) as live,
      counter >= (select max(change) from todo_api.tasks where user_id = ${user}) as ahead,
      (select count(distinct change) = count(*) and min(change) > 0 from todo_api.tasks where user_id = ${user}) as different
    from todo_api.task_lists where user_id = ${user}`
  return found
}

const writes: [string, string, (ids: number[]) => string, RequestOptions, number, number][] = [
  ['creating', 'POST', () => '', { json: { title: 'New' } }, 201, 3],
  ['changing', 'PATCH', ([id]) => `/${id}`, { json: { title: 'Changed' } }, 200, 2],
  ['completing', 'PATCH', ([id]) => `/${id}/complete`, {}, 200, 2],
  ['deleting', 'DELETE', ([id]) => `/${id}`, {}, 204, 1],
  ['deleting for good', 'DELETE', ([id]) => `/${id}?permanent=true`, {}, 204, 1],
  ['deleting from the trash', 'DELETE', ([, , id]) => `/${id}?permanent=true`, {}, 204, 2],
  ['restoring', 'POST', ([, , id]) => `/${id}/restore`, {}, 200, 3],
]
const precautions: [string, Record<string, string>][] = [
  ['', {}],
  [' under a version and a key', { 'if-match': '"1"', 'idempotency-key': 'once' }],
]
const each = writes.flatMap(([what, ...rest]) =>
  precautions
    .filter(([, headers]) => what !== 'creating' || headers['if-match'] === undefined)
    .map(([how, headers]) => [what + how, headers, ...rest] as const),
)

test.each(each)(
  '%s gives the list to tasks that have none',
  async (_, headers, method, path, options, status, live) => {
    const { user, send, ids } = await withoutList()
    const answer = await send(method, path(ids), { ...options, headers })
    expect(answer.status).toBe(status)
    expect(await listOf(user)).toEqual({ task_count: live, live, ahead: true, different: true })
    const all = await send<TaskBody[]>('GET')
    expect([all.body.length, all.headers.get('x-total-count')]).toEqual([live, String(live)])
    expect((await send<Changes>('GET', '/changes')).body.items).toHaveLength(live)
  },
)

test('a list that is missing is counted anyway', async () => {
  const { send } = await withoutList()
  expect((await send('GET', '?limit=1')).headers.get('x-total-count')).toBe('2')
})

test('purging gives the list too, so that no number of a change comes twice', async () => {
  const { user, send, ids } = await withoutList()
  await writeUncounted(
    `update todo_api.tasks set deleted_at = now() - interval '31 days' where id = ${ids[2]}`,
  )
  await purge(database)
  expect(await database.query`select from todo_api.tasks where user_id = ${user}`).toHaveLength(2)
  const [list] = await database.query<{ counter: number; purged_through: number }>`
    select counter, purged_through from todo_api.task_lists where user_id = ${user}`
  expect(list!.counter).toBeGreaterThanOrEqual(7)
  expect(list!.purged_through).toBeGreaterThanOrEqual(7)
  const { status } = await send('PATCH', `/${ids[0]}/complete`)
  expect(status).toBe(200)
})

test('many first writes at once all find the one list', async () => {
  const { user, send } = await withoutList()
  const answers = await Promise.all(
    Array.from({ length: 8 }, async (_, number) =>
      send('POST', '', { json: { title: `New ${number}` } }),
    ),
  )
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201))
  expect(await listOf(user)).toEqual({ task_count: 10, live: 10, ahead: true, different: true })
})
