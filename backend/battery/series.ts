import type { Sql } from 'postgres'
import { newUser, type TaskBody } from '../tests/support/api.ts'
import { createRandom, type Random } from '../tests/support/random.ts'
import type { Client } from './client.ts'
import type { Report } from './report.ts'

const clients = 3
const seriesAtWork = 4
const recentTasks = 8

type Cast = {
  client: Client
  report: Report
  token: string
  origin: () => string
  next: Random
  /** The ids of the tasks that come again, as far as the clients of the user know them. */
  known: Set<number>
}

type SeriesOptions = {
  client: Client
  report: Report
  servers: (() => string)[]
  seed: number
  admin: Sql
}

/**
 * A user with tasks that come again, on which some clients work at random. They are not judged one by one,
 * as other tasks are, since a write to one makes and removes another: in the end they must all fit together.
 */
export function startSeries({ client, report, servers, seed, admin }: SeriesOptions) {
  let isRunning = true
  const user = newUser()
  const known = new Set<number>()
  async function work(number: number): Promise<void> {
    const { token } = await user
    const origin = servers[number % servers.length]!
    const next = createRandom(seed + number)
    const act = createSeriesActor({ client, report, token, origin, next, known })
    while (isRunning) await act()
  }
  const working = Array.from({ length: clients }, async (_, number) => work(number))
  return {
    /** Ends the work and checks all of it. */
    async check(): Promise<void> {
      isRunning = false
      await Promise.all(working)
      await checkSeries((await user).id, admin, report)
    },
  }
}

/** A client of a user. Each call does one thing to a task that comes again. */
function createSeriesActor({ client, report, token, origin, next, known }: Cast) {
  const expected = [404, 409, 412]

  async function send(method: string, path: string, json?: object): Promise<TaskBody | undefined> {
    const options = { token, ...(json && { json }) }
    const answer =
      next(2) === 0 && !path.endsWith('/skip')
        ? await client.write<TaskBody>(origin, method, path, options, expected)
        : await client.ask<TaskBody>(origin(), method, path, options, expected)
    if (answer === 'lost' || answer.status >= 300) return undefined
    report.count('acknowledged writes')
    return answer.body
  }

  function learn(task: TaskBody | undefined): void {
    if (task?.series_id === undefined || task.series_id === null) return
    known.add(task.id)
    if (task.next_task_id !== null) known.add(task.next_task_id)
    if (task.completed && task.next_task_id === null)
      report.violation(`task ${task.id} was completed, and none comes after it`)
  }

  return async function act(): Promise<void> {
    const recent = [...known].slice(-recentTasks)
    const id = recent[next(Math.max(recent.length, 1))]
    if (id === undefined || known.size < seriesAtWork) {
      const json = { title: 'Again', due_date: '2030-05-17', recurrence: 'daily' }
      return learn(await send('POST', '/api/tasks', json))
    }
    const path = `/api/tasks/${id}`
    const what = next(10)
    if (what < 4) learn(await send('PATCH', `${path}/complete`))
    else if (what < 6) learn(await send('PUT', path, { completed: next(2) === 0 }))
    else if (what < 7) learn(await send('PATCH', path, { title: `Again ${next(100)}` }))
    else if (what < 8) learn(await send('POST', `${path}/skip`))
    else if (what < 9) {
      const operations = [...new Set([id, recent[0]!])].map((each) => ({
        op: 'complete',
        id: each,
        data: { completed: next(2) === 0 },
      }))
      await send('POST', '/api/tasks/bulk', { atomic: false, operations })
    } else if (next(2) === 0) await send('DELETE', path)
    else learn(await send('POST', `${path}/restore`))
  }
}

type Row = {
  id: number
  version: number
  completed: boolean
  previous: number | null
  next: number | null
}

/** Checks that the tasks of a user, all of which come again, fit one another and the counter. */
async function checkSeries(user: string, admin: Sql, report: Report): Promise<void> {
  const rows = await admin<Row[]>`
    select
      id::float8, version::float8, completed,
      previous_task_id::float8 as previous, next_task_id::float8 as next
    from todo_api.tasks where user_id = ${user}`
  const byId = new Map(rows.map((row) => [row.id, row]))
  for (const row of rows) {
    const what = JSON.stringify(row)
    if (row.completed && row.next === null) report.violation(`nothing comes after ${what}`)
    if (row.next !== null && byId.get(row.next)?.previous !== row.id)
      report.violation(`what comes after ${what} does not know it`)
    if (row.previous !== null && byId.get(row.previous)?.next !== row.id)
      report.violation(`what comes before ${what} does not know it`)
  }
  const [list] = await admin<{ counter: number; withdrawn: number }[]>`
    select
      counter::float8,
      (select count(*)::float8 from todo_api.deleted_tasks as gone where gone.user_id = list.user_id)
        as withdrawn
    from todo_api.task_lists as list where user_id = ${user}`
  // What is taken back was made and removed.
  const effects = rows.reduce((sum, { version }) => sum + version, 2 * (list?.withdrawn ?? 0))
  if (list?.counter !== effects)
    report.violation(`the list counts ${list?.counter} changes, and ${effects} explain it`)
  report.count('tasks that came again', rows.filter(({ previous }) => previous !== null).length)
  report.count('tasks that were taken back', list?.withdrawn ?? 0)
}
