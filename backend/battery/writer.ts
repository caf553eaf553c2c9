import type { TaskBody } from '../tests/support/api.ts'
import type { Outcome } from './client.ts'
import type { State, Write, WriteEvent } from './history.ts'
import { stateOf } from './notebook.ts'
import type { createReader, Person } from './reader.ts'
import type { Report } from './report.ts'

type Answer = Exclude<Outcome<TaskBody & { current?: TaskBody }>, 'lost'>
type Answered = Omit<WriteEvent, 'outcome'>

/** How a write is sent besides what it does: under a key until it is answered, and at one version only. */
export type Manner = { keyed: boolean; onlyAt?: number | undefined }

/** Writes, and notes what may have become of it. */
export function createWriter(
  { client, notebook, token, origin, versions }: Person,
  { see }: ReturnType<typeof createReader>,
  report: Report,
) {
  let answered = 0

  function noteDone(task: TaskBody | undefined, event: Answered, id: number | undefined): void {
    report.count('acknowledged writes')
    const shown = task && { version: task.version, shown: stateOf(task, 'list') }
    const history = notebook.historyOf(task?.id ?? id!)
    history.writes.push({ ...event, outcome: { is: 'done', ...shown } })
    if (task === undefined) return
    versions.set(task.id, task.version)
    if (event.write.does === 'create') notebook.know(task.id, event.ended)
  }

  function noteRefusal({ status, body }: Answer, event: Answered, id: number | undefined): void {
    const { write, onlyAt } = event
    // Only restoring looks into the trash, and destroying anywhere.
    const from: State['place'][] =
      write.does === 'destroy' ? ['list', 'trash'] : [write.does === 'restore' ? 'trash' : 'list']
    if (status === 412) {
      const current = body.current!
      if (current.version === onlyAt) report.violation(`412 for version ${onlyAt}, which it is`)
      if (from.length === 1) see(current, from[0]!, event)
    } else if (id !== undefined) notebook.miss(id, event, from)
  }

  /** @param id the task's, unless the write creates it */
  async function send(
    write: Write,
    id: number | undefined,
    [method, path, json]: [string, string, (object | undefined)?],
    { keyed, onlyAt }: Manner,
  ): Promise<void> {
    const headers = onlyAt === undefined ? {} : { 'if-match': `"${onlyAt}"` }
    const options = { token, json, headers }
    const asked = { write, ...(onlyAt !== undefined && { onlyAt }), began: performance.now() }
    const answer = keyed
      ? await client.write<Answer['body']>(origin, method, path, options, [404, 412])
      : await client.ask<Answer['body']>(origin(), method, path, options, [404, 412])
    const event = { ...asked, ended: performance.now() }
    const isAnswered = answer !== 'lost' && answer.status !== 503
    // A repeated write that is refused may have been done before.
    if (!isAnswered || (answer.status >= 400 && answer.isRepeated)) notebook.lose(asked, id)
    if (!isAnswered) return
    answered += 1
    // A dialect answers a deletion with a body, which is no task.
    const isGone = write.does === 'remove' || write.does === 'destroy'
    if (answer.status < 300) noteDone(isGone ? undefined : answer.body, event, id)
    else noteRefusal(answer, event, id)
  }

  return {
    send,
    /** How many writes were answered. */
    answered: () => answered,
  }
}
