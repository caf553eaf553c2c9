import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'
import { kindOf, rowsOf, type Kind, type Write } from './operation.ts'
import { createWriteParts } from './parts.ts'

/** What became of a write: a row of the statement. A write without one has changed nothing. */
export type Outcome = {
  /** The position of the write in its set. */
  place: number
  /** `of a series`: nothing was done, because the task comes again; see `ofSeries` of a write. */
  outcome: 'done' | 'repeated' | 'running' | 'of a series'
  id: number
  version: number
  /** The task; null if the answer has no body. */
  json: string | null
  /** What the key stands for, if the outcome is `repeated`. */
  request: string | null
}

export type SetOptions = {
  maxTasksPerUser: number
  /**
   * Whether to wait for tasks that somebody else has locked. If not, they are left as they are, so
   * that one of them keeps no other write of the set waiting.
   */
  waits: boolean
  /** How long to wait for a lock, in milliseconds; 0 for ever. */
  patience: string
}

/** What is in a set decides what is in its statement. */
type Shape = {
  kinds: ReadonlySet<Kind>
  /** Whether a write has fields of a task, or changes some by itself. */
  hasFields: boolean
  /** Whether a user has several writes. */
  hasSeveral: boolean
  keyed: boolean
  waits: boolean
  ofSeries: boolean
}

/**
 * The statement that makes a set of writes, each as if it were by itself: it locks the tasks, counts
 * their lists up, makes the changes and records the answers under the idempotency keys. The parts that
 * a set has no use for are left out, or a lone write would pay for them.
 *
 * Locks are taken in one order by every statement, tasks before lists and each by user and id, so that
 * no two can wait for each other. Each write that happens gets a number of its own from its list's counter.
 */
export function createSetStatement({ fragment }: Pick<Database, 'fragment'>) {
  const {
    series,
    input,
    fields,
    numbering,
    numberingOfOne,
    prior,
    turn,
    isAmong,
    hasItsDate,
    growth,
    weighedNumbering,
    list,
    numbered,
    weighedNumbered,
    created,
    changed,
    destroyed,
    jsonOf,
    statusForOlderServers,
  } = createWriteParts({ fragment })

  const isFirst = fragment`(
    key is null
    or place in (select place from turn where is_ours) and place not in (select place from prior)
  )`
  const target = ({ waits, keyed, ofSeries, hasFields }: Shape) => {
    const locked = fragment`
      select
        input.place, tasks.deleted_at,
        ${ofSeries ? fragment`input.user_id, tasks.id, ${series.step(fragment`true`)}` : fragment`${series.isOne} as is_of_series`}
      from input join todo_api.tasks on tasks.user_id = input.user_id and tasks.id = input.id
      where input.aims_at = 'task' and ${isAmong}
        and (input.versions is null or tasks.version = any (input.versions))
        ${keyed ? fragment`and ${isFirst}` : fragment``}
        ${waits || !hasFields ? fragment`` : fragment`and ${hasItsDate}`}
      order by tasks.user_id, tasks.id
      for update of tasks ${waits ? fragment`` : fragment`skip locked`}`
    const weight = series.weight(
      fragment`(select id from locked)`,
      waits ? fragment`true` : fragment`false`,
    )
    return ofSeries
      ? fragment`locked as (${locked}), target as (select place, deleted_at, step, ${weight} from locked)`
      : fragment`target as (${locked})`
  }
  const withTarget = fragment`input left join target using (place)`
  const withoutTarget = fragment`
    input cross join (
      select null::timestamptz as deleted_at, null::boolean as is_of_series, null::todo_api.step as step,
        null::int as weight
    ) as target`

  const allowed = ({ kinds, hasSeveral, keyed, ofSeries }: Shape) => fragment`
    allowed as (
      select
        input.*, target.deleted_at,
        ${
          ofSeries
            ? fragment`target.step, target.weight, ${growth(fragment`weight`)} as growth, ${weighedNumbering}`
            : fragment`${growth(fragment`0`)} as growth, ${hasSeveral ? numbering : numberingOfOne}`
        }
      from ${aimsAtTasks(kinds) ? withTarget : withoutTarget}
      where ${ofSeries ? fragment`target.weight is not null` : fragment`not target.is_of_series`}
        or kind = 'create' ${keyed ? fragment`and ${isFirst}` : fragment``}
    )`

  const ofCreated = fragment`
    select numbered.place, created.id, created.version, ${jsonOf(fragment`created`)} as json
    from created
    join numbered on numbered.user_id = created.user_id and numbered.change = created.change`
  const ofChanged = fragment`
    select place, id, version, case when deleted_at is null then ${jsonOf(fragment`changed`)} end as json
    from changed`
  const ofDestroyed = fragment`select place, id, version, null as json from destroyed`

  const recorded = fragment`
    recorded as (
      insert into todo_api.idempotency_keys (user_id, key, request, status, task_id, version, body)
      select user_id, key, request, ${statusForOlderServers}, done.id, done.version, done.json
      from done join input using (place) where key is not null
    )`

  /** Statements are assembled once for each combination of parts. */
  const statements = new Map<string, Fragment>()

  return function setStatement(
    writes: readonly Write[],
    { maxTasksPerUser, waits, patience }: SetOptions,
  ): Fragment {
    const kinds = new Set(writes.map(({ operation }) => kindOf(operation)))
    const keyed = writes.some(({ idempotency }) => idempotency !== undefined)
    const ofSeries = writes.some((write) => write.ofSeries)
    const hasFields = ofSeries || writes.some(({ operation }) => 'fields' in operation)
    const hasSeveral = !ofSeries && new Set(writes.map(({ owner }) => owner)).size < writes.length
    const shape = { kinds, hasFields, hasSeveral, keyed, waits, ofSeries }
    const name = [...[...kinds].toSorted(), hasFields, hasSeveral, keyed, waits, ofSeries].join(' ')
    const statement = statements.get(name) ?? assemble(shape)
    statements.set(name, statement)
    const rows = JSON.stringify(rowsOf(writes))
    return statement.with([patience, rows, maxTasksPerUser, maxTasksPerUser])
  }

  function assemble(shape: Shape): Fragment {
    const { kinds, hasFields, keyed, ofSeries } = shape
    const [creates, changes, destroys] = [
      kinds.has('create'),
      kinds.has('change'),
      kinds.has('destroy'),
    ]
    const done = [creates && ofCreated, changes && ofChanged, destroys && ofDestroyed]
    return fragment`
      with ${listed(fragment`, `, [
        input('', '', hasFields ? fields : fragment``),
        keyed && prior,
        keyed && turn,
        aimsAtTasks(kinds) && target(shape),
        allowed(shape),
        list(0),
        ofSeries ? weighedNumbered : numbered,
        creates && created(ofSeries),
        changes && changed(shape),
        destroys && destroyed,
        fragment`done as (${listed(fragment` union all `, done)})`,
        keyed && recorded,
      ])}
      ${listed(fragment` union all `, [
        fragment`select place, 'done' as outcome, id, version, json, null as request from done`,
        keyed && fragment`select place, 'repeated', task_id, version, body, request from prior`,
        changes &&
          !ofSeries &&
          fragment`select place, 'of a series', null, null, null, null from target where is_of_series`,
        keyed &&
          fragment`select place, 'running', null, null, null, null from turn where not is_ours`,
      ])}`
  }

  function listed(separator: Fragment, parts: readonly (Fragment | false)[]): Fragment {
    return parts
      .filter((part) => part !== false)
      .reduce((all, part) => fragment`${all}${separator}${part}`)
  }
}

function aimsAtTasks(kinds: ReadonlySet<Kind>): boolean {
  return kinds.has('change') || kinds.has('destroy')
}
