import type { Asked } from '../auth/current-user.ts'
import type { Answers } from '../http/answers.ts'
import type { Limit } from '../http/rate-limit.ts'
import { jsonResponse, notModified } from '../http/responses.ts'
import { parametersOf } from '../http/urls.ts'
import { readOperations, tellings, type BulkResults } from './bulk.ts'
import type * as contracts from './contracts.ts'
import { readIdempotency } from './idempotency.ts'
import type { TaskList } from './list/list.ts'
import { isKnown, readIfMatch } from './preconditions.ts'
import { keptFields, type Task, type TrashedTask } from './schemas.ts'
import { sentBody } from './sent-body.ts'
import type { TaskStore, WriteOptions } from './store.ts'
import { writeSyncToken } from './sync-token.ts'
import type { WriteAnswer } from './writes/writer.ts'

/** What the routes are made of. */
export type TaskParts = { tasks: TaskStore; list: TaskList; answers: Answers; limitUser: Limit }

/** A request to the route with this contract, and what answers it. */
type Call<Contract> = Asked<Contract> & TaskParts

export async function listTasks({
  list,
  answers,
  userId,
  query,
  headers,
  set,
  path,
  request,
  server,
}: Call<typeof contracts.listTasks>): Promise<Task[] | undefined> {
  const known = headers['if-none-match']
  const isHeld = known === undefined ? undefined : (tag: string) => isKnown(known, tag)
  return answers.send<Task[]>({ userId, set, request, server }, async function readPage(most) {
    const page = await list(userId, query, isHeld, most)
    set.headers['etag'] = `"${page.tag}"`
    if (page.state === 'unchanged') return notModified(set)
    const { epoch, counter } = page.place
    set.headers['x-total-count'] = String(page.total)
    set.headers['sync-token'] = writeSyncToken({ epoch, seen: counter, complete: counter }, userId)
    if (page.next !== undefined)
      set.headers['link'] = `<${nextPage(path, request.url, page.next)}>; rel="next"`
    return page
  })
}

export async function createTask({
  tasks,
  userId,
  body,
  headers,
  set,
}: Call<typeof contracts.createTask>): Promise<Task> {
  const options = optionsOf(headers, ['create', body])
  const written = await tasks.create(userId, keptFields(body), options)
  set.headers['location'] = `/api/tasks/${written.id}`
  return sendWritten(set, written, 201)
}

export async function bulkTasks({
  tasks,
  limitUser,
  userId: owner,
  body,
  headers,
  set,
  request,
}: Call<typeof contracts.bulkTasks>): Promise<BulkResults> {
  const { operations, atomic = true } = body
  limitUser(owner, set.headers, operations.length / 10)
  const idempotency = readIdempotency(headers['idempotency-key'], ['bulk', sentBody(request, body)])
  const { results, replayed } = await tasks.bulk({
    owner,
    operations: readOperations(operations),
    atomic,
    idempotency,
    tellings,
  })
  markReplay(set, { replayed })
  return jsonResponse<BulkResults>(set, `{"results":${results}}`)
}

export async function listTrash({
  tasks,
  answers,
  userId,
  set,
  request,
  server,
}: Call<typeof contracts.listTrash>): Promise<TrashedTask[]> {
  const asked = { userId, set, request, server }
  return answers.send<TrashedTask[]>(asked, async (most) => tasks.trash(userId, most))
}

export async function findTask({
  tasks,
  userId,
  params,
  headers,
  set,
}: Call<typeof contracts.findTask>): Promise<Task | undefined> {
  const { version, json } = await tasks.find(userId, params.id)
  const isUnchanged = isKnown(headers['if-none-match'], String(version))
  set.headers['etag'] = `"${version}"`
  return isUnchanged ? notModified(set) : jsonResponse<Task>(set, json)
}

/** For PUT and PATCH, which do the same: a field that is left out keeps its value. */
export async function updateTask({
  tasks,
  userId,
  params: { id },
  body,
  headers,
  set,
  request,
}: Call<typeof contracts.updateTask>): Promise<Task> {
  const options = optionsOf(headers, ['update', id, sentBody(request, body)])
  return sendWritten(set, await tasks.update(userId, id, keptFields(body), options))
}

export async function completeTask({
  tasks,
  userId,
  params: { id },
  body,
  headers,
  set,
}: Call<typeof contracts.completeTask>): Promise<Task> {
  const options = optionsOf(headers, ['complete', id, body])
  const completed = body?.completed
  const written =
    completed === undefined
      ? await tasks.toggle(userId, id, options)
      : await tasks.update(userId, id, { completed }, options)
  return sendWritten(set, written)
}

export async function removeTask({
  tasks,
  userId,
  params: { id },
  query: { permanent },
  headers,
  set,
}: Call<typeof contracts.removeTask>): Promise<void> {
  const written =
    permanent === 'true'
      ? await tasks.destroy(userId, id, optionsOf(headers, ['destroy', id]))
      : await tasks.remove(userId, id, optionsOf(headers, ['remove', id]))
  markReplay(set, written)
  set.status = 204
}

export async function restoreTask({
  tasks,
  userId,
  params: { id },
  headers,
  set,
}: Call<typeof contracts.restoreTask>): Promise<Task> {
  const options = optionsOf(headers, ['restore', id])
  return sendWritten(set, await tasks.restore(userId, id, options))
}

export async function skipTask({
  tasks,
  userId,
  params: { id },
  headers,
  set,
}: Call<typeof contracts.skipTask>): Promise<Task> {
  const options = optionsOf(headers, ['skip', id])
  return sendWritten(set, await tasks.skip(userId, id, options))
}

type Set = Asked<unknown>['set']

/** @param request all that makes it this request, besides its precondition */
function optionsOf(headers: Record<string, string | undefined>, request: unknown[]): WriteOptions {
  const precondition = readIfMatch(headers['if-match'])
  const idempotency = readIdempotency(headers['idempotency-key'], [...request, precondition])
  return { ...(precondition && { precondition }), ...(idempotency && { idempotency }) }
}

function sendWritten(set: Set, written: WriteAnswer, status = 200): Task {
  markReplay(set, written)
  set.headers['etag'] = `"${written.version}"`
  return jsonResponse<Task>(set, written.json!, status)
}

function markReplay(set: Set, { replayed }: Pick<WriteAnswer, 'replayed'>): void {
  if (replayed) set.headers['idempotent-replayed'] = 'true'
}

function nextPage(path: string, url: string, cursor: string): string {
  const parameters = parametersOf(url)
  parameters.set('cursor', cursor)
  return `${path}?${parameters.toString()}`
}
