import type { TaskBody } from '../tests/support/api.ts'
import type { Random } from '../tests/support/random.ts'
import type { Client } from './client.ts'
import type { Report } from './report.ts'
import type { Stand } from './stand.ts'

/**
 * Tasks that come again, of one user, on which clients work at random. They are not judged one by one, as
 * other tasks are, since a write to one makes and removes another: in the end all of them must hang together.
 */
export type Series = { known: Set<number> }

const seriesAtWork = 4 // of a user
const recentTasks = 8

type Cast = {
  client: Client
  report: Report
  token: string
  origin: () => string
  next: Random
  series: Series
}

/** A client of a user. Each call does one thing to a task that comes again. */
export function createSeriesActor({ client, report, token, origin, next, series }: Cast) {
  const expected = [404, 409, 412]

  async function send(method: string, path: string, json?: object): Promise<TaskBody | undefined> {
    const options = { token, ...(json && { json }) }
    const key = crypto.randomUUID()
    const answer =
      next(2) === 0 && !path.endsWith('/skip')
        ? await client.write<TaskBody>(origin, method, path, { ...options, key }, expected)
        : await client.ask<TaskBody>(origin(), method, path, options, expected)
    if (answer === undefined || answer === 'lost' || answer.status >= 300) return undefined
    report.count('acknowledged writes')
    return answer.body
  }

  function learn(task: TaskBody | undefined): void {
    if (task?.series_id === undefined || task.series_id === null) return
    series.known.add(task.id)
    if (task.next_task_id !== null) series.known.add(task.next_task_id)
    if (task.completed && task.next_task_id === null)
      report.violation(`task ${task.id} was completed, and none comes after it`)
  }

  return async function act(): Promise<void> {
    const recent = [...series.known].slice(-recentTasks)
    const id = recent[next(Math.max(recent.length, 1))]
    if (id === undefined || series.known.size < seriesAtWork) {
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

/**
 * Holds the tasks that come again to one another.
 *
 * @param others the ids of the user's other tasks
 * @returns how many changes explain them
 */
export async function checkSeries(
  user: string,
  others: ReadonlySet<number>,
  { admin }: Pick<Stand, 'admin'>,
  report: Report,
): Promise<number> {
  const rows = await admin<Row[]>`
    select
      id::float8, version::float8, completed,
      previous_task_id::float8 as previous, next_task_id::float8 as next
    from todo_api.tasks where user_id = ${user} and recurrence is not null`
  const gone = await admin<{ id: number }[]>`
    select id::float8 from todo_api.deleted_tasks where user_id = ${user}`
  const withdrawn = gone.filter(({ id }) => !others.has(id))
  const byId = new Map(rows.map((row) => [row.id, row]))
  for (const row of rows) {
    const what = JSON.stringify(row)
    if (row.completed && row.next === null) report.violation(`nothing comes after ${what}`)
    if (row.next !== null && byId.get(row.next)?.previous !== row.id)
      report.violation(`what comes after ${what} does not know it`)
    if (row.previous !== null && byId.get(row.previous)?.next !== row.id)
      report.violation(`what comes before ${what} does not know it`)
  }
  report.count('tasks that came again', rows.filter(({ previous }) => previous !== null).length)
  report.count('tasks that were taken back', withdrawn.length)
  return rows.reduce((sum, { version }) => sum + version, 0) + 2 * withdrawn.length
}
