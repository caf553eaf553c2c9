import { createLine } from '../../db/line.ts'
import { DatabaseUnavailable, Locked } from '../../db/failures.ts'
import type { Database } from '../../db/pool.ts'
import type { Fragment, Query } from '../../db/sql.ts'
import { ApiError } from '../../http/failures.ts'
import type { Idempotency } from '../idempotency.ts'
import { addLists } from '../list/missing.ts'
import type { Precondition } from '../preconditions.ts'
import { shortly, type WhenFree } from './locked.ts'
import { rowsOf, type Operation } from './operation.ts'
import { createWriteParts } from './parts.ts'
import { forgetOldKey, isKeyTaken, refuseRule, wrongDue, wrongDueField } from './refusals.ts'

/** Many operations on one user's tasks, none of them on the same. */
export type Bulk = {
  owner: string
  operations: readonly { operation: Operation; precondition?: Precondition | undefined }[]
  /** Whether a refusal of one is a refusal of all. */
  atomic: boolean
  idempotency?: Idempotency | undefined
  /** How clients are told of each outcome. It is part of the answer that is recorded under the key. */
  tellings: Record<OperationOutcome, Telling>
}

/** What became of one operation: what happened to its task, or the code of its refusal. */
export type OperationOutcome =
  | 'created'
  | 'changed'
  | 'gone'
  | 'bulk_refused'
  | 'not_owner'
  | 'task_limit_reached'
  | 'task_not_found'
  | 'validation_failed'
  | 'version_conflict'
  /** The task cannot be due when it would be, for what is stored of it. */
  | `wrong_${keyof typeof wrongDue}`

export type Telling = { status: number; code?: string; detail?: string }

/**
 * What became of them; no row if the user has no list yet. `malformed`: the operation whose place is the
 * result has a rule without a date on or after the one that is sent with it, or cannot be due when it says.
 * `busy`: another write has locked a task that must be removed.
 */
type BulkOutcome = {
  outcome: 'done' | 'refused' | 'repeated' | 'running' | 'malformed' | 'busy'
  /** A JSON array with an element for each operation. */
  results: string
  /** What the key stands for. */
  request: string | null
  /** What is malformed. */
  field: 'recurrence' | keyof typeof wrongDue | null
}

/**
 * `judgesDue`: whether the statement looks for operations whose task cannot be due when it would be. It does so
 * once PostgreSQL has refused it for one of those, so that no other request pays for the look.
 */
type Asked = Bulk & { judgesDue: boolean }

/** Each retry follows another write that got in first. */
const mostAttempts = 20

/**
 * Makes many operations of one user in one statement. It waits for tasks that somebody else has locked,
 * so that it goes with nobody else's.
 */
export function createBulkWriter(
  database: Database,
  { maxTasksPerUser, whenFree }: { maxTasksPerUser: number; whenFree: WhenFree },
) {
  const { queryWithin, deadline } = database
  const bulkStatement = createBulkStatement(database)
  const shared = { rowOf: ({ owner }: Asked) => owner, most: 1, deadline, longest: 100 }
  const sendNow = createLine<Asked, BulkOutcome | undefined>({
    ...shared,
    width: Math.max(Math.floor(database.connections / 4), 1),
    send: async ([asked], left) => [await run(asked!, { waits: false, patience: shortly }, left)],
  })
  /** For those that wait for a locked row, so that others need not wait behind them. */
  const sendWhenFree = createLine<Asked, BulkOutcome | undefined>({
    ...shared,
    width: Infinity,
    async send([asked], left) {
      const { owner, operations } = asked!
      const ids = operations.flatMap(({ operation }) => ('id' in operation ? [operation.id] : []))
      const outcome = await whenFree({ owner, ids }, left, async (rest, patience) =>
        run(asked!, { waits: true, patience }, rest),
      )
      return [outcome]
    },
  })

  async function run(
    asked: Asked,
    locking: { waits: boolean; patience: string },
    left: number,
  ): Promise<BulkOutcome | undefined> {
    const statement = bulkStatement(asked, { maxTasksPerUser, ...locking })
    const [outcome] = await queryWithin(left, 1)<BulkOutcome>`${statement}`
    return outcome
  }

  /**
   * What the first request with the key was answered, if it came between this one's beginning and its
   * turn: what is refused then would be refused for what the first has done.
   */
  async function findPrior(
    { outcome }: BulkOutcome,
    { owner, idempotency }: Bulk,
    query: Query,
  ): Promise<BulkOutcome | undefined> {
    if (outcome !== 'refused' || idempotency === undefined) return undefined
    const [prior] = await query<BulkOutcome>`
      select 'repeated' as outcome, body as results, request, null as field from todo_api.idempotency_keys
      where user_id = ${owner} and key = ${idempotency.key}
        and created_at > now() - interval '24 hours'`
    return prior
  }

  /**
   * @returns the JSON array of results, and whether it is given again
   * @throws ApiError 409 `bulk_refused` (atomic, and one of the operations is refused: nothing was
   *   done), `idempotency_in_progress`; 422 `idempotency_key_reused`
   */
  return async function bulk(asked: Bulk): Promise<{ results: string; replayed: boolean }> {
    const { owner, idempotency } = asked
    const arrivedAt = performance.now()
    const queryInTime: Query = async (strings, ...parameters) =>
      queryWithin(arrivedAt + deadline - performance.now(), 1)(strings, ...parameters)
    let send = sendNow
    let judgesDue = false
    for (let attempt = 0; attempt < mostAttempts; attempt += 1) {
      try {
        const found = await send(owner, { ...asked, judgesDue }, arrivedAt)
        if (found && found.outcome !== 'busy')
          return resultsOf((await findPrior(found, asked, queryInTime)) ?? found, asked)
        if (found) send = sendWhenFree
        else await addLists(queryInTime, [owner])
      } catch (error) {
        if (error instanceof Locked) send = sendWhenFree
        else if (idempotency && isKeyTaken(error))
          await forgetOldKey(queryInTime, owner, idempotency)
        else if (wrongDueField(error) && !judgesDue) judgesDue = true
        else throw error
      }
    }
    throw new DatabaseUnavailable(`A write found no quiet moment in ${mostAttempts} attempts`)
  }
}

function resultsOf({ outcome, results, request, field }: BulkOutcome, { idempotency }: Bulk) {
  if (outcome === 'running') throw new ApiError('idempotency_in_progress')
  if (outcome === 'malformed') refuseField(`operations.${results}.data.${field}`, field!)
  if (outcome === 'refused') throw new ApiError('bulk_refused', { results })
  if (outcome === 'repeated' && request !== idempotency?.request)
    throw new ApiError('idempotency_key_reused', {
      errors: [{ field: 'Idempotency-Key', detail: 'was used for another request' }],
    })
  return { results, replayed: outcome === 'repeated' }
}

function refuseField(path: string, field: NonNullable<BulkOutcome['field']>): never {
  if (field === 'recurrence') refuseRule(path)
  throw new ApiError('validation_failed', { errors: [{ field: path, detail: wrongDue[field] }] })
}

/**
 * The statement that makes many operations of one user at once, and writes down what became of each. It
 * says why one is refused, too, since the whole answer is recorded under the key.
 */
function createBulkStatement({ fragment }: Pick<Database, 'fragment'>) {
  const {
    series,
    input,
    fields,
    prior,
    turn,
    isAmong,
    hasItsDate,
    growth,
    weighedNumbering,
    list,
    weighedNumbered,
    created,
    changed,
    jsonOf,
    statusForOlderServers,
  } = createWriteParts({ fragment })

  const isMet = fragment`(input.versions is null or tasks.version = any (input.versions))`

  /**
   * Waits for the tasks and for those that came after them, of which some may have to go, in the one order of
   * locks. Later on, none of those is waited for.
   */
  const held = (owner: string) => fragment`
    held as (
      select
      from
        (
          select unnest(array[tasks.id, tasks.next_task_id]) as id
          from input join todo_api.tasks on tasks.user_id = input.user_id and tasks.id = input.id
          where input.aims_at = 'task'
          order by id
        ) as wanted,
        lateral (
          select from todo_api.tasks
          where tasks.user_id = ${owner} and tasks.id = wanted.id for update
        ) as locked
    ),`
  const areHeld = fragment`and (select count(*) from held) >= 0`
  const nothing = fragment``

  const faultOfChanged = fragment`
    case when ${isMet} then todo_api.due_fault(
      case when sets_due_date then input.due_date else tasks.due_date end
        + case when sets_due_time then input.due_time else tasks.due_time end,
      case when sets_due_timezone then input.due_timezone else tasks.due_timezone end
    ) end`
  const faultOfCreated = fragment`
    case when kind = 'create' then todo_api.due_fault(input.due_date + due_time, due_timezone) end`
  const isAllowed = fragment`is_met and is_sound and target.due_fault is null and (target.step).falls is not false`
  const noFault = fragment`null::text`
  /** Whether the operation has sent all that is at fault, so that nothing stored decides. */
  const isAllSent = fragment`
    (
      kind = 'create'
      or sets_due_timezone and (due_fault = 'due_timezone' or sets_due_date and sets_due_time)
    )`

  return function bulkStatement(
    { owner, operations, atomic, idempotency, tellings, judgesDue }: Asked,
    {
      maxTasksPerUser,
      waits,
      patience,
    }: { maxTasksPerUser: number; waits: boolean; patience: string },
  ): Fragment {
    const writes = operations.map((operation) => ({ owner, ...operation, idempotency }))
    return fragment`
      with ${input(JSON.stringify(rowsOf(writes)), patience, fields)}, ${prior}, ${turn},
      ${waits ? held(owner) : nothing}
      target as (
        select
          input.place, tasks.id, tasks.deleted_at, ${series.step(fragment`${isMet} and ${hasItsDate}`)},
          ${isMet} as is_met,
          ${hasItsDate} as is_sound,
          ${judgesDue ? faultOfChanged : noFault} as due_fault,
          case when tasks.version <> all (input.versions) then ${jsonOf(fragment`tasks`)} end as current
        from input join todo_api.tasks on tasks.user_id = input.user_id and tasks.id = input.id
        where input.aims_at = 'task' and ${isAmong} ${waits ? areHeld : nothing}
        order by tasks.user_id, tasks.id
        for update of tasks
      ), judged as (
        select input.*, target.deleted_at, target.current, target.step,
          coalesce(target.due_fault, ${judgesDue ? faultOfCreated : noFault}) as due_fault,
          ${series.weight(fragment`(select id from target where ${isAllowed})`, fragment`false`)},
          case
            when kind = 'create' or ${isAllowed} then null
            when is_met then coalesce('wrong_' || target.due_fault, 'validation_failed')
            when target.place is not null then 'version_conflict'
            when (
              select true from todo_api.tasks
              where tasks.id = input.id and tasks.user_id <> input.user_id and (op = 'restore' or ${isAmong}) limit 1
            ) then 'not_owner'
            else 'task_not_found'
          end as obstacle
        from input left join target using (place)
        where not exists (select from prior) and not exists (select from turn where not is_ours)
      ), malformed as (
        select place, field
        from judged,
          lateral (
            select case
              when due_fault is not null and ${isAllSent} then due_fault
              when due_date is not null and case kind
                when 'create' then
                  series ->> 'recurrence' is not null
                  and todo_api.next_occurrence(series ->> 'recurrence', due_date, due_date - 1) is null
                else (step).falls is false
              end then 'recurrence'
            end as field
          ) as found
        where field is not null
        order by place limit 1
      ), grown as (
        select coalesce(sum(${growth(fragment`weight`)}), 0) as growth from judged where obstacle is null
      ), room as (
        select task_count + (select growth from grown) <= ${maxTasksPerUser} as is_enough
        from todo_api.task_lists
        -- The tasks are locked by now, and not only the list.
        where user_id = ${owner} and (select growth from grown) is not null
          and not exists (select from judged where weight is null and obstacle is null)
          and not exists (select from malformed)
        for update
      ), refused as (
        select place, coalesce(obstacle, 'task_limit_reached') as code, current
        from judged, room
        where obstacle is not null or ${growth(fragment`weight`)} > 0 and not is_enough
      ), allowed as (
        select judged.*, ${growth(fragment`weight`)} as growth, ${weighedNumbering} from judged, room
        where place not in (select place from refused)
          and not (${atomic}::boolean and exists (select from refused))
      ), ${list(maxTasksPerUser)}, ${weighedNumbered}, ${created(true)}, ${changed({ ofSeries: true, hasFields: true })},
      done as (
        select numbered.place, 'created' as outcome, ${jsonOf(fragment`created`)} as task
        from created
        join numbered on numbered.user_id = created.user_id and numbered.change = created.change
        union all
        select
          place, case when deleted_at is null then 'changed' else 'gone' end,
          case when deleted_at is null then ${jsonOf(fragment`changed`)} end
        from changed
      ), become as (
        select place, outcome, task, null as current from done
        union all
        select place, code, null, current from refused
        union all
        select place, 'bulk_refused', null, null from judged
        where place not in (select place from refused) and place not in (select place from done)
      ), result as (
        select place, concat(
          '{"index":', place, ',"status":', told -> 'status', ',"task":' || task,
          ',"code":' || (told -> 'code'), ',"detail":' || (told -> 'detail'), ',"current":' || current, '}'
        ) as json
        from become
        join json_each(${JSON.stringify(tellings)}::text::json) as telling (outcome, told) using (outcome)
      ), answer as (
        select '[' || string_agg(json, ',' order by place) || ']' as results from result
      ), recorded as (
        insert into todo_api.idempotency_keys (user_id, key, request, status, task_id, body)
        select ${owner}, ${idempotency?.key ?? null}, ${idempotency?.request ?? null}, ${statusForOlderServers}, 0, results
        from answer
        where ${idempotency !== undefined}::boolean and results is not null and exists (select from room)
          and not (${atomic}::boolean and exists (select from refused))
      )
      select
        case when ${atomic}::boolean and exists (select from refused) then 'refused' else 'done' end as outcome,
        results, null as request, null as field
      from answer where results is not null and exists (select from room)
      union all
      (select 'repeated', body, request, null from prior limit 1)
      union all
      (select 'running', null, null, null from turn where not is_ours limit 1)
      union all
      select 'malformed', place::text, null, field from malformed
      union all
      (
        select 'busy', null, null, null from judged
        where weight is null and obstacle is null and not exists (select from malformed) limit 1
      )`
  }
}
