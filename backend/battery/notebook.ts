import type { Sql } from 'postgres'
import type { newUser, TaskBody } from '../tests/support/api.ts'
import { judge, type History, type State, type Timed, type WriteEvent } from './history.ts'
import type { Report } from './report.ts'

export type User = Awaited<ReturnType<typeof newUser>>

/** What the clients of one user know together, and all that they did and learned. */
export type Notebook = ReturnType<typeof createNotebook>

/** What a list has in the end, and what it counts. */
export type Ending = { rows: Row[]; counter?: number | undefined; count: number }

type Row = Omit<State, 'place'> & {
  id: number
  version: number
  tags: string[]
  is_trashed: boolean
}

/** A creation is known by this tag if its answer was lost. */
export const creationTag = (title: string) => `created as ${title}`

export function createNotebook(user: User) {
  /** The tasks by their ids, in the order in which they were heard of. */
  const histories = new Map<number, History>()
  /** Creations of which nobody knows what became, by the tag that the task would have. */
  const lostCreations = new Map<string, WriteEvent>()
  /** When it was first known that a task is there. */
  const knownSince = new Map<number, number>()
  /** The lists that were read, by their Sync-Tokens, to be compared with each other. */
  const lists: (Timed & { token: string; fields: string; hash: unknown })[] = []

  function historyOf(id: number): History {
    const history = histories.get(id) ?? { writes: [], sights: [], absences: [] }
    return histories.set(id, history).get(id)!
  }

  /** A creation without an answer took effect after all. */
  function adopt(id: number, [tag = '']: string[]): void {
    const event = lostCreations.get(tag)
    if (event) historyOf(id).writes.push(event)
    lostCreations.delete(tag)
  }

  function know(id: number, since: number): void {
    if (!knownSince.has(id)) knownSince.set(id, since)
  }

  return {
    user,
    /** The user's personal keys, as far as they are known. */
    keys: [] as { id: number; key: string }[],
    lists,
    historyOf,
    know,
    ids: () => [...histories.keys()],
    miss(id: number, { began, ended }: Timed, from: State['place'][]): void {
      historyOf(id).absences.push({ began, ended, from })
    },
    see(task: TaskBody, place: State['place'], { began, ended }: Timed): void {
      know(task.id, ended)
      const shown = stateOf(task, place)
      historyOf(task.id).sights.push({ version: task.version, shown, began, ended })
      adopt(task.id, task.tags)
    },
    /** A write was not answered, or only after it was repeated: it took effect once or not at all. */
    lose(event: Omit<WriteEvent, 'outcome' | 'ended'>, id: number | undefined): void {
      const lost: WriteEvent = { ...event, ended: Infinity, outcome: { is: 'unknown' } }
      if (id !== undefined) historyOf(id).writes.push(lost)
      else if (event.write.does === 'create')
        lostCreations.set(creationTag(event.write.fields.title!), lost)
    },
    /** All tasks but these were absent from a place. */
    missAllBut(ids: Set<number>, place: 'list' | 'trash', { began, ended }: Timed): void {
      for (const [id, since] of knownSince)
        if (since < began && !ids.has(id))
          historyOf(id).absences.push({ began, ended, from: [place] })
    },

    /** Whether an order of what took effect explains every answer, and leads to what is there: see `judge`. */
    check({ rows, counter, count }: Ending, report: Report): void {
      for (const row of rows) {
        adopt(row.id, row.tags)
        const state = stateOf(row, row.is_trashed ? 'trash' : 'list')
        historyOf(row.id).last = { version: row.version, state }
      }
      let effects = 0
      let isExact = true
      for (const [id, history] of histories) {
        const verdict = judge(history)
        if ('problem' in verdict) {
          report.count(verdict.figure)
          report.violation(`task ${id}: ${verdict.problem}`)
        } else effects += verdict.effects
        // Nobody can tell whether the last unanswered writes to a task that is gone had an effect.
        isExact &&=
          history.last !== undefined || history.writes.every(({ ended }) => ended < Infinity)
      }
      if (counter !== undefined && isExact && counter !== effects)
        report.violation(`the list counts ${counter} changes, and ${effects} explain it`)
      const listed = rows.filter((row) => !row.is_trashed).length
      if (count !== listed) report.violation(`the list counts ${count} tasks, and has ${listed}`)
      compareLists(lists, report)
    },
  }
}

/**
 * Lists at the same number are the same, and a later request gets no smaller number. Servers of two versions
 * may give tasks different fields.
 */
function compareLists(lists: Notebook['lists'], report: Report): void {
  const hashes = new Map<string, unknown>()
  for (const { token, fields, hash } of lists) {
    const place = `${token} ${fields}`
    if ((hashes.get(place) ?? hash) !== hash) report.violation(`two lists are at ${token}`)
    hashes.set(place, hash)
  }
  let seen = 0
  const byEnd = lists.toSorted((one, other) => one.ended - other.ended)
  let at = 0
  for (const { token, began } of lists.toSorted((one, other) => one.began - other.began)) {
    for (; at < byEnd.length && byEnd[at]!.ended < began; at += 1)
      seen = Math.max(seen, counterOf(byEnd[at]!.token))
    if (counterOf(token) < seen) report.violation(`a list is at ${token}, after one at ${seen}`)
  }
}

/** The number of changes that a Sync-Token of a list stands for. */
export function counterOf(token: string): number {
  return Number(token.split('.')[0])
}

export function stateOf(task: Omit<State, 'place'>, place: State['place']): State {
  const { title, description, completed, priority } = task
  return { title, description, completed, priority, place }
}

/** What the database has of a user, past the API. */
export async function readRows(admin: Sql, { id }: User): Promise<Ending> {
  const rows = await admin<Row[]>`
    select
      id::float8, version::float8, title, description, completed, priority::text, tags,
      deleted_at is not null as is_trashed
    from todo_api.tasks where user_id = ${id}`
  const [list] = await admin<{ counter: number; task_count: number }[]>`
    select counter::float8, task_count from todo_api.task_lists where user_id = ${id}`
  return { rows, counter: list?.counter ?? 0, count: list?.task_count ?? 0 }
}
