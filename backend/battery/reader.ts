import type { TaskBody } from '../tests/support/api.ts'
import type { Client, Outcome } from './client.ts'
import type { State, Timed } from './history.ts'
import type { Notebook } from './notebook.ts'

/** A client of one user. */
export type Person = {
  client: Client
  notebook: Notebook
  token: string
  /** Where to send the next request. */
  origin: () => string
  /** The version of each task that this client saw last. */
  versions: Map<number, number>
}

type Page = { items: TaskBody[]; deleted: { id: number }[]; sync_token: string }
type Listed = Exclude<Outcome<TaskBody[]>, 'lost'>

/** Reads, and notes what was seen and what was not. */
export function createReader({ client, notebook, token, origin, versions }: Person) {
  let syncToken: string | undefined

  function see(task: TaskBody, place: State['place'], time: Timed): void {
    versions.set(task.id, task.version)
    notebook.see(task, place, time)
  }

  /** Gives the answer, unless there was none or it was 503. */
  async function read<Body>(path: string, expected: number[] = []) {
    const began = performance.now()
    const outcome = await client.ask<Body>(origin(), 'GET', path, { token }, expected)
    const time = { began, ended: performance.now() }
    return outcome === 'lost' || outcome.status === 503 ? undefined : { ...outcome, time }
  }

  async function readOne(id: number): Promise<void> {
    const answer = await read<TaskBody>(`/api/tasks/${id}`, [404])
    if (answer?.status === 200) see(answer.body, 'list', answer.time)
    else if (answer) notebook.miss(id, answer.time, ['list'])
  }

  /** Notes that the tasks in the answer were seen, and that all others were absent. */
  async function readAll(place: 'list' | 'trash'): Promise<Listed | undefined> {
    const answer = await read<TaskBody[]>(place === 'list' ? '/api/tasks' : '/api/tasks/trash')
    if (answer?.status !== 200) return undefined
    const { body, headers, time } = answer
    for (const task of body) see(task, place, time)
    notebook.missAllBut(new Set(body.map(({ id }) => id)), place, time)
    const at = headers.get('sync-token')
    const fields = Object.keys(body[0] ?? {}).join()
    if (at !== null)
      notebook.lists.push({ ...time, token: at, fields, hash: Bun.hash(JSON.stringify(body)) })
    return answer
  }

  /** @param mayForget whether the server may say that the last Sync-Token is too old */
  async function readChanges(mayForget: boolean): Promise<void> {
    const query = syncToken === undefined ? '' : `?since=${syncToken}`
    const answer = await read<Page>(`/api/tasks/changes${query}`, mayForget ? [410] : [])
    if (answer?.status === 410) syncToken = undefined
    if (answer?.status !== 200) return
    for (const task of answer.body.items) see(task, 'list', answer.time)
    for (const { id } of answer.body.deleted) notebook.miss(id, answer.time, ['list'])
    syncToken = answer.body.sync_token
  }

  return { see, readOne, readAll, readChanges }
}
