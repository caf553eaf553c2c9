import { createLine } from '../../db/line.ts'
import { DatabaseUnavailable, Locked, StatementFailed } from '../../db/failures.ts'
import type { Database } from '../../db/pool.ts'
import { ApiError } from '../../http/failures.ts'
import { addLists } from '../list/missing.ts'
import { shortly, type WhenFree } from './locked.ts'
import { createObstacles } from './obstacles.ts'
import { namesSeries, type Write } from './operation.ts'
import { forgetOldKey, isKeyTaken, refuseDueDate } from './refusals.ts'
import { createSetStatement, type Outcome, type SetOptions } from './set.ts'

/** What a write is answered with, now and to every repetition under the same Idempotency-Key. */
export type WriteAnswer = {
  id: number
  version: number
  /** The task; null if the answer has no body. */
  json: string | null
  replayed: boolean
}

type Locking = Pick<SetOptions, 'waits' | 'patience'>

const betweenAttempts = 20 // ms, and a little more each time

const patience = '100' // ms, with a lock that keeps a whole set waiting

/** Each retry follows another write that got in first. More than this many are not a coincidence. */
const mostAttempts = 20

/**
 * Makes writes: together with others first, and alone if that did not make them. A write happens whole
 * or not at all, whatever becomes of the connection. Why one was refused is asked afterwards, and only
 * then: asking in every write would make it slower.
 */
export function createWriter(
  database: Database,
  { maxTasksPerUser, whenFree }: { maxTasksPerUser: number; whenFree: WhenFree },
) {
  const { queryWithin, deadline } = database
  const setStatement = createSetStatement(database)
  const obstacles = createObstacles(database, { maxTasksPerUser })
  const shared = { rowOf, deadline, longest: 500 }

  const writeTogether = createLine<Write, Outcome | undefined>({
    ...shared,
    width: 2,
    most: 64,
    send: async (writes, left) =>
      tryUnblocked(writes, { waits: false, patience }, left).catch(nothingDone(writes)),
  })
  /** For writes that a shared statement did not make. */
  const writeByItself = createLine<Write, Outcome | undefined>({
    ...shared,
    width: 2,
    most: 1,
    send: async (writes, left) =>
      tryUnblocked(writes, { waits: false, patience: shortly }, left).catch(
        unlessInTheWay(writes, left),
      ),
  })
  /** For writes that wait for a locked row, one at a time of each user. */
  const writeWhenFree = createLine<Write, Outcome | undefined>({
    ...shared,
    width: Infinity,
    most: 1,
    async send(writes, left) {
      const { owner, operation } = writes[0]!
      const rows = { owner, ids: 'id' in operation ? [operation.id] : [] }
      try {
        return await whenFree(rows, left, async (rest, forLock) =>
          run(writes, { waits: true, patience: forLock }, rest),
        ).catch(unlessInTheWay(writes, left))
      } finally {
        blocked.delete(owner)
      }
    },
  })
  /** Users whose list is locked: a shared statement would wait for it. */
  const blocked = new Set<string>()
  /** The keys of requests that run in this process; the statement finds those that run elsewhere. */
  const running = new Set<string>()

  /** Leaves out writes whose lists are known to be locked: they are made once the lists are free. */
  async function tryUnblocked(
    writes: readonly Write[],
    locking: Locking,
    left: number,
  ): Promise<(Outcome | undefined)[]> {
    if (blocked.size === 0) return run(writes, locking, left)
    const free = writes.filter(({ owner }) => !blocked.has(owner))
    if (free.length === 0) return writes.map(() => undefined)
    const outcomes = await run(free, locking, left)
    return writes.map((each) => outcomes[free.indexOf(each)])
  }

  async function run(
    writes: readonly Write[],
    locking: Locking,
    left: number,
  ): Promise<(Outcome | undefined)[]> {
    const rows = await queryWithin(left, writes.length)<Outcome>`
      ${setStatement(writes, { maxTasksPerUser, ...locking })}`
    const outcomes = Array.from<Outcome | undefined>({ length: writes.length })
    for (const row of rows) outcomes[row.place] = row
    return outcomes
  }

  /** If a lone write is refused, the fault is its own, unless another request holds its row or its key. */
  function unlessInTheWay([asked]: readonly Write[], left: number) {
    const end = performance.now() + left
    return async function leaveUndone(error: unknown): Promise<undefined[]> {
      const { owner, idempotency } = asked!
      if (error instanceof Locked) blocked.add(owner)
      // The first request ended while this one began, or the key is a day old.
      else if (idempotency && isKeyTaken(error))
        await forgetOldKey(queryWithin(end - performance.now(), 1), owner, idempotency)
      else refuseDueDate(error)
      return [undefined]
    }
  }

  /**
   * @throws ApiError if the write is refused: 403, 404, 409, 412, 422
   * @throws DatabaseUnavailable
   */
  async function write(asked: Write): Promise<WriteAnswer> {
    if (!asked.idempotency) return settle(asked)
    const key = `${asked.owner} ${asked.idempotency.key}`
    if (running.has(key)) throw new ApiError('idempotency_in_progress')
    running.add(key)
    try {
      return await settle(asked)
    } finally {
      running.delete(key)
    }
  }

  /** Together with others, then by itself, then waiting for its row. */
  async function settle(asked: Write): Promise<WriteAnswer> {
    const { owner } = asked
    const arrivedAt = performance.now()
    // Most rows are free again in a moment. Only what is held for longer is waited for.
    const ways = [writeTogether, writeByItself, writeByItself, writeByItself, writeWhenFree]
    const last = ways.length - 1
    let sent = { ...asked, ofSeries: namesSeries(asked.operation) }
    let way = blocked.has(owner) ? last : 0
    for (let attempt = 0; attempt < mostAttempts; attempt += 1) {
      const outcome = await ways[way]!(owner, sent, arrivedAt)
      if (outcome?.outcome === 'of a series') {
        sent = { ...sent, ofSeries: true }
        continue
      }
      const answer = answerOf(outcome, asked)
      if (answer) return answer
      const { prior, ...obstacle } = await obstacles.find(asked, arrivedAt)
      const given = answerOf(prior, asked)
      if (given) return given
      if (obstacle.task_count === null)
        await addLists(queryWithin(arrivedAt + deadline - performance.now(), 1), [owner])
      else {
        obstacles.refuse(asked, obstacle)
        // The obstacle has gone since, or it is a lock.
        way = blocked.has(owner) ? last : Math.min(way + 1, last)
        if (way > 1 && way < last) await Bun.sleep(way * betweenAttempts)
      }
    }
    throw new DatabaseUnavailable(`A write found no quiet moment in ${mostAttempts} attempts`)
  }

  return write
}

function rowOf({ operation }: Write): number | undefined {
  return 'id' in operation ? operation.id : undefined
}

/** If PostgreSQL refuses the statement, one of its writes is at fault, and nothing was changed. */
function nothingDone(writes: readonly Write[]) {
  return function leaveUndone(error: unknown): undefined[] {
    if (!(error instanceof StatementFailed || error instanceof Locked)) throw error
    return writes.map(() => undefined)
  }
}

/** @throws ApiError 409 while the first request with this key runs, 422 if it was another request */
function answerOf(outcome: Outcome | undefined, { idempotency }: Write): WriteAnswer | undefined {
  if (outcome === undefined) return undefined
  if (outcome.outcome === 'running') throw new ApiError('idempotency_in_progress')
  const replayed = outcome.outcome === 'repeated'
  if (replayed && outcome.request !== idempotency?.request)
    throw new ApiError('idempotency_key_reused', {
      errors: [{ field: 'Idempotency-Key', detail: 'was used for another request' }],
    })
  const { id, version, json } = outcome
  return { id, version, json, replayed }
}
