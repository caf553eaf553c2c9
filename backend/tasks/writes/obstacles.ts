import { createLine } from '../../db/line.ts'
import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'
import { ApiError } from '../../http/failures.ts'
import { taskColumns } from '../columns.ts'
import type { Precondition } from '../preconditions.ts'
import { rowsOf, type Operation, type Write } from './operation.ts'
import { refuseRule } from './refusals.ts'
import type { Outcome } from './set.ts'

/** What stands in the way of a write, or stood there. */
export type Obstacle = {
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

/** Finds out why a write had no effect, in a snapshot of its own, and tells the client. */
export function createObstacles(
  database: Database,
  { maxTasksPerUser }: { maxTasksPerUser: number },
) {
  const { queryWithin, deadline, connections, fragment } = database
  const columns = taskColumns(database)
  const inTurn = createLine<Write, Obstacle>({
    width: Math.max(Math.floor(connections / 2), 1),
    most: 1,
    deadline,
    longest: 500,
    send: async ([asked], left) => [await findWithin(left, asked!)],
  })

  /**
   * @param arrivedAt when the request came, on `performance.now()`
   * @throws WaitedTooLong, WaitedForOneself, QueueFull, DatabaseUnavailable
   */
  async function find(asked: Write, arrivedAt: number): Promise<Obstacle> {
    return inTurn(asked.owner, asked, arrivedAt)
  }

  /**
   * What stands in the way of a write, or stood there a moment ago, in a snapshot of its own. What it does to a
   * series is asked of the function that the statement of the write asks.
   */
  async function findWithin(left: number, asked: Write): Promise<Obstacle> {
    const { owner, operation, idempotency } = asked
    const id = 'id' in operation ? operation.id : null
    const [row] = rowsOf([asked])
    const [found] = await queryWithin(left, 1)<ObstacleRow>`
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
          from todo_api.tasks where tasks.id = ${id} and ${among(owner, operation)}
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

  /**
   * Where the task of an operation may be: in the list, in the trash, or either. To restore, somebody else's task is
   * looked for in both, since it is theirs wherever it is.
   */
  function among(owner: string, { op }: Operation): Fragment {
    if (op === 'destroy') return fragment`true`
    return op === 'restore'
      ? fragment`(deleted_at is not null or user_id <> ${owner})`
      : fragment`deleted_at is null`
  }

  function jsonOf(row: Fragment): Fragment {
    return fragment`(select row_to_json(task)::text from (select ${columns} from ${row}) task)`
  }

  return { find, refuse }
}

function isMet(precondition: Precondition | undefined, version: number): boolean {
  return (
    precondition === undefined || precondition === 'any version' || precondition.includes(version)
  )
}
