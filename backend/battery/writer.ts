import type { TaskBody } from '../tests/support/api.ts'
import type { Outcome } from './client.ts'
import type { State, Write, WriteEvent } from './history.ts'
import { stateOf } from './notebook.ts'
import type { createReader, Person } from './reader.ts'
import type { Report } from './report.ts'

/** What an answer says of one write. */
type Answer = {
  status: number
  task?: TaskBody | undefined
  current?: TaskBody | undefined
  isRepeated?: boolean | undefined
}
type Asked = Omit<WriteEvent, 'outcome' | 'ended'>
type Answered = Omit<WriteEvent, 'outcome'>

/** One of the writes that go in one request. */
export type Operation = {
  write: Write
  /** Of the task, unless it is created. */
  id?: number
  onlyAt?: number | undefined
  /** How the API calls it. */
  op: string
  data?: object | undefined
}
type SingleBody = TaskBody & { current?: TaskBody }
type BulkBody = { results?: Omit<Answer, 'isRepeated'>[] }

type Request = [method: string, path: string, json?: object | undefined]

/** How a write is sent besides what it does: under a key until it is answered, and at one version only. */
export type Manner = { keyed: boolean; onlyAt?: number | undefined }

/** Writes, and notes what may have become of it. */
export function createWriter(
  { client, notebook, token, origin, versions }: Person,
  { see }: ReturnType<typeof createReader>,
  report: Report,
) {
  let answered = 0

  async function ask<Body>(
    keyed: boolean,
    [method, path, json]: Request,
    headers: Record<string, string>,
    expected: number[],
  ): Promise<Exclude<Outcome<Body>, 'lost'> | undefined> {
    const options = { token, json, headers }
    const outcome = keyed
      ? await client.write<Body>(origin, method, path, options, expected)
      : await client.ask<Body>(origin(), method, path, options, expected)
    return outcome === 'lost' || outcome.status === 503 ? undefined : outcome
  }

  function noteDone(task: TaskBody | undefined, event: Answered, id: number | undefined): void {
    report.count('acknowledged writes')
    const shown = task && { version: task.version, shown: stateOf(task, 'list') }
    const history = notebook.historyOf(task?.id ?? id!)
    history.writes.push({ ...event, outcome: { is: 'done', ...shown } })
    if (task === undefined) return
    versions.set(task.id, task.version)
    if (event.write.does === 'create') notebook.know(task.id, event.ended)
  }

  function noteRefusal({ status, current }: Answer, event: Answered, id: number | undefined): void {
    const { write, onlyAt } = event
    // Only restoring looks into the trash, and destroying anywhere.
    const from: State['place'][] =
      write.does === 'destroy' ? ['list', 'trash'] : [write.does === 'restore' ? 'trash' : 'list']
    if (status === 412) {
      if (current!.version === onlyAt) report.violation(`412 for version ${onlyAt}, which it is`)
      if (from.length === 1) see(current!, from[0]!, event)
    } else if (status === 404) notebook.miss(id!, event, from)
  }

  /** Notes what a write's answer says; nothing if there was none. */
  function note(asked: Asked, id: number | undefined, answer: Answer | undefined): void {
    // A repeated write that is refused may have been done before.
    if (!answer || (answer.status >= 400 && answer.isRepeated)) notebook.lose(asked, id)
    if (!answer) return
    answered += 1
    const event = { ...asked, ended: performance.now() }
    // A dialect answers a deletion with a body, which is no task.
    const isGone = asked.write.does === 'remove' || asked.write.does === 'destroy'
    if (answer.status < 300) noteDone(isGone ? undefined : answer.task, event, id)
    else noteRefusal(answer, event, id)
  }

  /** @param id the task's, unless the write creates it */
  async function send(
    write: Write,
    id: number | undefined,
    request: Request,
    { keyed, onlyAt }: Manner,
  ): Promise<void> {
    const headers = onlyAt === undefined ? {} : { 'if-match': `"${onlyAt}"` }
    const asked = { write, ...(onlyAt !== undefined && { onlyAt }), began: performance.now() }
    const answer = await ask<SingleBody | undefined>(keyed, request, headers, [404, 412])
    note(asked, id, answer && { ...answer, task: answer.body, current: answer.body?.current })
  }

  /** Sends writes to different tasks in one request. */
  async function sendTogether(
    operations: Operation[],
    { keyed, atomic }: { keyed: boolean; atomic: boolean },
  ): Promise<void> {
    const began = performance.now()
    const json = {
      atomic,
      operations: operations.map(({ op, id, onlyAt, data }) => ({
        op,
        ...(id !== undefined && { id }),
        ...(onlyAt !== undefined && { if_version: onlyAt }),
        ...(data && { data }),
      })),
    }
    const answer = await ask<BulkBody>(keyed, ['POST', '/api/tasks/bulk', json], {}, [409])
    const statuses = answer?.body.results?.map(({ status }) => status) ?? []
    const isDone = (status: number) => status < 300
    if (answer?.status === 409 ? statuses.some(isDone) : atomic && !statuses.every(isDone))
      report.violation(`a bulk, ${atomic ? '' : 'not '}atomic, was half done: ${statuses.join()}`)
    for (const [index, { write, id, onlyAt }] of operations.entries()) {
      const asked = { write, ...(onlyAt !== undefined && { onlyAt }), began }
      const result = answer?.body.results?.[index]
      note(asked, id, result && { ...result, isRepeated: answer?.isRepeated })
    }
  }

  return {
    send,
    sendTogether,
    /** How many writes were answered. */
    answered: () => answered,
  }
}
