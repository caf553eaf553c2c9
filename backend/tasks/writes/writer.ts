import { createLine } from '../../db/line.ts'
import {
  DatabaseUnavailable,
  Locked,
  StatementFailed,
  type Database,
  type Fragment,
} from '../../db/pool.ts'
import { ApiError } from '../../http/failures.ts'
import { taskColumns } from '../columns.ts'
import { addLists } from '../list/missing.ts'
import type { Precondition } from '../preconditions.ts'
import { namesSeries, rowsOf, type Operation, type Write } from './operation.ts'
import { forgetOldKey, isKeyTaken, refuseDueDate, refuseRule } from './refusals.ts'
import { createSetStatement, type Outcome } from './set.ts'

/** What a write is answered with, now and to every repetition under the same Idempotency-Key. */
export type WriteAnswer = {
  id: number
  version: number
  /** The task; null if the answer has no body. */
  json: string | null
  replayed: boolean
}

const betweenAttempts = 20 // ms, and a little more each time

/** Each is for somebody else's write that came in between: more of them than this is no chance. */
const mostAttempts = 20

/**
 * Makes writes: together with others, and those that stay undone by themselves. A write happens whole
 * or not at all, whatever becomes of the connection. Why one was refused is asked afterwards, and only
 * then: asking in every write would make it slower.
 */
export function createWriter(database: Database, { maxTasksPerUser }: { maxTasksPerUser: number }) {
  const { queryFor, queryWithin, fragment, deadline } = database
  const columns = taskColumns(database)
  const setStatement = createSetStatement(database)
  const shared = { rowOf, deadline, longest: 500 }

  const writeTogether = createLine<Write, Outcome | undefined>({
    ...shared,
    width: 2,
    most: 64,
    send: async (writes, left) => tryUnblocked(writes, left).catch(nothingDone(writes)),
  })
  /** For writes that a statement of many left as they were. */
  const writeByItself = createLine<Write, Outcome | undefined>({
    ...shared,
    width: 2,
    most: 1,
    send: async (writes, left) => tryUnblocked(writes, left).catch(unlessInTheWay(writes)),
  })
  /** For writes that wait for a row that somebody holds: few, so that connections stay free of them. */
  const writeWhenFree = createLine<Write, Outcome | undefined>({
    ...shared,
    width: Math.max(Math.floor(database.connections / 4), 1),
    most: 1,
    async send(writes, left) {
      try {
        return await run(writes, { waits: true }, left).catch(unlessInTheWay(writes))
      } finally {
        for (const { owner } of writes) blocked.delete(owner)
      }
    },
  })
  /** Whose list somebody holds: a statement of many would wait for it. */
  const blocked = new Set<string>()
  /** The keys of requests that run here; of those that run elsewhere the statement knows. */
  const running = new Set<string>()

  /** Leaves those out whose lists are known to be held: their turn comes when they are free. */
  async function tryUnblocked(
    writes: readonly Write[],
    left: number,
  ): Promise<(Outcome | undefined)[]> {
    if (blocked.size === 0) return run(writes, { waits: false }, left)
    const free = writes.filter(({ owner }) => !blocked.has(owner))
    if (free.length === 0) return writes.map(() => undefined)
    const outcomes = await run(free, { waits: false }, left)
    return writes.map((each) => outcomes[free.indexOf(each)])
  }

  async function run(
    writes: readonly Write[],
    { waits }: { waits: boolean },
    left: number,
  ): Promise<(Outcome | undefined)[]> {
    const rows = await queryWithin(left, writes.length)<Outcome>`
      ${setStatement(writes, { maxTasksPerUser, waits })}`
    const outcomes = Array.from<Outcome | undefined>({ length: writes.length })
    for (const row of rows) outcomes[row.place] = row
    return outcomes
  }

  /** What a lone write is refused for is its own fault, unless it is somebody else's row or request. */
  function unlessInTheWay([asked]: readonly Write[]) {
    return async function leaveUndone(error: unknown): Promise<undefined[]> {
      const { owner, idempotency } = asked!
      if (error instanceof Locked) blocked.add(owner)
      // The first request ended while this one began, or the key is a day old.
      else if (idempotency && isKeyTaken(error))
        await forgetOldKey(queryFor(owner), owner, idempotency)
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
    // Most rows are free again in a moment. Only what is held for longer takes one of the few places.
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
      const { prior, ...obstacle } = await findObstacle(asked)
      const given = answerOf(prior, asked)
      if (given) return given
      if (obstacle.task_count === null) await addLists(queryFor(owner), [owner])
      else {
        refuse(asked, obstacle)
        // It has gone since, or it is a lock.
        way = blocked.has(owner) ? last : Math.min(way + 1, last)
        if (way > 1 && way < last) await Bun.sleep(way * betweenAttempts)
      }
    }
    throw new DatabaseUnavailable(`A write found no quiet moment in ${mostAttempts} attempts`)
  }

  /**
   * What stands in the way of a write, or stood there a moment ago, in a snapshot of its own. What it does to a
   * series is asked of the function that the statement of the write asks.
   */
  async function findObstacle(asked: Write): Promise<Obstacle> {
    const { owner, operation, idempotency } = asked
    const id = 'id' in operation ? operation.id : null
    const [row] = rowsOf([asked])
    const [found] = await queryFor(owner)<ObstacleRow>`
      select list.task_count, prior.*, is_own, task_version, task_json, recurs,
        (step).next_date is not null as comes_again, (step).has_ended,
        (step).falls, (step).due_date is not null as is_dated
      from (values (${JSON.stringify(row)}::text::jsonb)) as asked (given)
        left join todo_api.task_lists as list on list.user_id = ${owner}
        left join (
          select task_id as id, version, body as json, request from todo_api.idempotency_keys
          where user_id = ${owner} and key = ${idempotency?.key ?? null}
            and created_at > now() - interval '24 hours'
        ) as prior on true
        left join lateral (
          select
            user_id = ${owner} as is_own, tasks.version as task_version,
            case when user_id = ${owner} then ${jsonOf(fragment`(select tasks.*) as own`)} end as task_json,
            recurrence is not null as recurs,
            case when user_id = ${owner} and prior.id is null
              and coalesce(given -> 'versions' @> to_jsonb(tasks.version), true)
            then todo_api.step_of(tasks, given) end as step
          from todo_api.tasks where tasks.id = ${id} and ${among(operation)}
          offset 0
        ) as task on true`
    const { id: priorId, request, version, json, ...obstacle } = found!
    const prior: Outcome | undefined =
      priorId === null
        ? undefined
        : { place: 0, outcome: 'repeated', id: priorId, version, json, request }
    return { ...obstacle, prior }
  }

  /** @throws ApiError if there is still something in the way */
  function refuse({ operation, precondition }: Write, obstacle: Omit<Obstacle, 'prior'>): void {
    if ('id' in operation) {
      if (obstacle.is_own === null) throw new ApiError('task_not_found')
      if (!obstacle.is_own) throw new ApiError('not_owner')
      if (!isMet(precondition, obstacle.task_version!))
        throw new ApiError('version_conflict', { current: obstacle.task_json! })
    }
    if (obstacle.falls === false) refuseRule('recurrence', obstacle.is_dated)
    if (operation.op === 'skip' && obstacle.has_ended)
      throw new ApiError(obstacle.recurs ? 'recurrence_ended' : 'not_recurring')
    const needsRoom =
      operation.op === 'create' || operation.op === 'restore' || obstacle.comes_again
    if (needsRoom && obstacle.task_count! >= maxTasksPerUser)
      throw new ApiError('task_limit_reached')
  }

  /** Where the task of an operation may be: in the list, in the trash, or either. */
  function among({ op }: Operation): Fragment {
    if (op === 'destroy') return fragment`true`
    return op === 'restore' ? fragment`deleted_at is not null` : fragment`deleted_at is null`
  }

  function jsonOf(row: Fragment): Fragment {
    return fragment`(select row_to_json(task)::text from (select ${columns} from ${row}) task)`
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

type Obstacle = {
  /** Null: the user has no list yet. */
  task_count: number | null
  /** Null: there is no such task. */
  is_own: boolean | null
  task_version: number | null
  task_json: string | null
  /** Whether the task has a rule. */
  recurs: boolean | null
  /** Whether the write makes the task that comes next. */
  comes_again: boolean
  /** Whether the task was to be moved to its next date, and there is none. */
  has_ended: boolean | null
  /** Whether the rule that is to start anew ever comes. Null: none is. */
  falls: boolean | null
  /** Whether the task would have a date for it. */
  is_dated: boolean
  /** The answer to the first request with this key. */
  prior: Outcome | undefined
}

type ObstacleRow = Omit<Obstacle, 'prior'> &
  Omit<Outcome, 'id' | 'outcome' | 'place'> & { id: number | null }

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

function isMet(precondition: Precondition | undefined, version: number): boolean {
  return (
    precondition === undefined || precondition === 'any version' || precondition.includes(version)
  )
}
