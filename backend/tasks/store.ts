import { DatabaseUnavailable, StatementFailed, type Database, type Fragment } from '../db/pool.ts'
import { ApiError } from '../errors.ts'
import { anySize, unlessTooLarge, type Written } from '../http/answers.ts'
import type { Idempotency } from './idempotency.ts'
import type { Precondition } from './preconditions.ts'
import type { NewTask, TaskChanges } from './schemas.ts'
import { arrayOf, taskColumns } from './columns.ts'
import { addLists } from './list/missing.ts'

/** A task as the client gets it: the JSON that PostgreSQL wrote, and its version. */
export type StoredTask = { version: number; json: string }

/** What a write is answered with, now and to every repetition under the same Idempotency-Key. */
export type WriteAnswer = {
  status: number
  id: number
  version: number
  /** Absent where the answer has no body. */
  json: string | null
  replayed: boolean
}

/** What a client may ask of a write, beside the write. */
export type WriteOptions = {
  precondition?: Precondition | undefined
  idempotency?: Idempotency | undefined
}

export type TaskStoreOptions = {
  maxTasksPerUser: number
  /** Is told whose tasks have changed, once that is committed. */
  onChange?: (owner: string) => void
}

export type TaskStore = ReturnType<typeof createTaskStore>

/** Somebody else's write may come in between, but not so many times. */
const mostAttempts = 20

/**
 * One task in the database: reading it and changing it. The owner is the first argument of every
 * function and stands in every statement. Where the task is not the owner's, nothing changes and
 * they throw ApiError `not_owner` (it is somebody else's) or `task_not_found` (it is nobody's).
 *
 * Every write is one statement, so that it happens whole or not at all, whatever becomes of the
 * connection: it checks the owner and the version, counts the version and the list's counter up,
 * changes the task and records the answer under the idempotency key. Why nothing was changed is
 * asked afterwards, and only then: the answer to it made every write a third dearer.
 */
export function createTaskStore(
  database: Pick<Database, 'queryFor' | 'fragment'>,
  { maxTasksPerUser, onChange = () => {} }: TaskStoreOptions,
) {
  const { queryFor, fragment } = database
  const columns = taskColumns(database)
  const isLive = fragment`deleted_at is null`
  const updatedNow = fragment`updated_at = clock_timestamp()`
  const jsonOf = (row: Fragment) =>
    fragment`(select row_to_json(task)::text from (select ${columns} from ${row}) task)`

  async function write(
    owner: string,
    target: Target,
    options: WriteOptions,
    changeWhere: (allowed: Fragment) => Fragment,
  ): Promise<WriteAnswer> {
    const { id, among, status } = target
    const { precondition, idempotency } = options
    const query = queryFor(owner)
    // The task is locked before the list, always: two writes cannot wait for each other.
    const locked = fragment`
      target as (
        select version, deleted_at from todo_api.tasks
        where user_id = ${owner} and id = ${id} and ${among} for update
      )`
    const isWanted =
      id === null
        ? fragment`true`
        : precondition === undefined || precondition === 'any version'
          ? fragment`exists (select from target)`
          : fragment`exists (
              select from target
              where version = any (string_to_array(${precondition.join()}, ',')::bigint[])
            )`
    const body = status === 204 ? fragment`null::text` : jsonOf(fragment`changed`)

    async function run(): Promise<WriteAnswer | undefined> {
      if (idempotency === undefined) {
        const [changed] = await query<Changed>`
          with ${locked}, ${changeWhere(isWanted)}
          select id, version, ${body} as json from changed`
        return changed && { ...changed, status, replayed: false }
      }
      const [found] = await query<KeyedOutcome>`
        with prior as (
          select * from todo_api.idempotency_keys
          where user_id = ${owner} and key = ${idempotency.key}
            and created_at > now() - interval '24 hours'
        ), turn as (
          -- Held until the end of this statement's transaction: the first request still runs.
          select pg_try_advisory_xact_lock(hashtextextended(${`${owner} ${idempotency.key}`}, 0)) as is_ours
        ), ${locked},
        ${changeWhere(fragment`${isWanted} and (select is_ours from turn) and not exists (select from prior)`)},
        answer as (select id, version, ${body} as json from changed),
        recorded as (
          insert into todo_api.idempotency_keys (user_id, key, request, status, task_id, version, body)
          select ${owner}, ${idempotency.key}, ${idempotency.request}, ${status}::smallint, id, version, json
          from answer
        )
        select
          (select is_ours from turn) as is_ours,
          prior.request as prior_request, prior.status as prior_status, prior.task_id as prior_id,
          prior.version as prior_version, prior.body as prior_json,
          answer.id, answer.version, answer.json
        from (values (1)) as one left join answer on true left join prior on true`
      return keyedAnswer(found!, status, idempotency)
    }

    const answer = await runUntilDecided(run, owner, target, options).catch(
      async (refusal: unknown) => {
        const isRefusal = refusal instanceof ApiError || refusal instanceof StatementFailed
        if (idempotency === undefined || !isRefusal) throw refusal
        // A statement that has waited for the first request sees the task as that left it, and the
        // keys as they were before: what it was refused for may be the first request's own doing.
        const prior = await findPrior(owner, idempotency)
        if (prior === undefined) throw refusal
        return prior
      },
    )
    if (!answer.replayed) onChange(owner)
    return answer
  }

  /** @throws DatabaseUnavailable if others write in between each time */
  async function runUntilDecided(
    run: () => Promise<WriteAnswer | undefined>,
    owner: string,
    target: Target,
    { precondition, idempotency }: WriteOptions,
  ): Promise<WriteAnswer> {
    for (let attempt = 0; attempt < mostAttempts; attempt += 1) {
      try {
        const answer = await run()
        if (answer !== undefined) return answer
      } catch (error) {
        if (idempotency === undefined || !isKeyTaken(error)) throw error
        // The first request ended while this one began, or the key is a day old. Nothing was changed.
        await forgetOldKey(owner, idempotency)
        continue
      }
      const obstacle = await findObstacle(owner, target, precondition)
      if (obstacle === 'no list') await addLists(queryFor(owner), [owner])
      else if (obstacle !== undefined) throw obstacle
      // What was in the way has gone since: somebody else wrote in between.
    }
    throw new DatabaseUnavailable(`A write came to nothing ${mostAttempts} times in a row`)
  }

  /** What the first request with this key was answered, in a snapshot of its own. */
  async function findPrior(
    owner: string,
    idempotency: Idempotency,
  ): Promise<WriteAnswer | undefined> {
    const [prior] = await queryFor(owner)<Prior>`
      select
        request as prior_request, status as prior_status, task_id as prior_id,
        version as prior_version, body as prior_json
      from todo_api.idempotency_keys
      where user_id = ${owner} and key = ${idempotency.key}
        and created_at > now() - interval '24 hours'`
    return prior && priorAnswer(prior, idempotency)
  }

  async function forgetOldKey(owner: string, { key }: Idempotency): Promise<void> {
    await queryFor(owner)`
      delete from todo_api.idempotency_keys
      where user_id = ${owner} and key = ${key} and created_at <= now() - interval '24 hours'`
  }

  /** Why a write changed nothing. */
  async function findObstacle(
    owner: string,
    { id, among, needsRoom }: Target,
    precondition: Precondition | undefined,
  ): Promise<ApiError | 'no list' | undefined> {
    const [found] = await queryFor(owner)<Obstacle>`
      select list.task_count, task.is_own, task.version, task.json
      from (values (1)) as one
        left join todo_api.task_lists list on list.user_id = ${owner}
        left join (
          select
            user_id = ${owner} as is_own, version,
            case when user_id = ${owner} then ${jsonOf(fragment`(select tasks.*) as own`)} end as json
          from todo_api.tasks where id = ${id} and ${among}
        ) task on true`
    const { is_own, version, json, task_count } = found!
    if (id !== null) {
      if (version === null) return new ApiError('task_not_found')
      if (!is_own) return new ApiError('not_owner')
      if (!isMet(precondition, version)) return new ApiError('version_conflict', { current: json! })
    }
    if (task_count === null) return 'no list'
    return needsRoom && task_count >= maxTasksPerUser
      ? new ApiError('task_limit_reached')
      : undefined
  }

  return {
    /** @throws ApiError 403, 404 */
    async find(owner: string, id: number): Promise<StoredTask> {
      const query = queryFor(owner)
      const [found] = await query<StoredTask>`
        select version, row_to_json(task)::text as json
        from (
          select ${columns} from todo_api.tasks where user_id = ${owner} and id = ${id} and ${isLive}
        ) task`
      if (found) return found
      const others = await queryFor(owner)`
        select from todo_api.tasks where id = ${id} and user_id <> ${owner} and ${isLive}`
      throw new ApiError(others.length > 0 ? 'not_owner' : 'task_not_found')
    },

    /**
     * What was put into the trash last, as many as may be tasks: a JSON array.
     *
     * @throws NeedsRoom where it has more bytes than `most`
     */
    async trash(owner: string, most = anySize): Promise<Written> {
      const [found] = await queryFor(owner)<{ json: string | null; bytes: number }>`
        select octet_length(json) as bytes, case when octet_length(json) <= ${most}::bigint then json end as json
        from (select '[' || coalesce(string_agg(row_to_json(task)::text, ','), '') || ']' as json
        from (
          select ${columns}, to_char(deleted_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as deleted_at
          from todo_api.tasks where user_id = ${owner} and deleted_at is not null
          order by tasks.deleted_at desc, id desc
          limit ${maxTasksPerUser}::int
        ) task) as trash`
      return unlessTooLarge(found!)
    },

    /** @throws ApiError 409 `task_limit_reached` */
    async create(owner: string, task: NewTask, options: WriteOptions): Promise<WriteAnswer> {
      const { title, description = null, completed = false, priority = 'none', tags = [] } = task
      const { due_date = null, due_time = null, due_timezone = null } = task
      return write(
        owner,
        { id: null, among: isLive, status: 201, needsRoom: true },
        options,
        (allowed) => fragment`
          list as (
            update todo_api.task_lists set counter = counter + 1, task_count = task_count + 1
            where user_id = ${owner} and task_count < ${maxTasksPerUser} and ${allowed}
            returning counter
          ), changed as (
            insert into todo_api.tasks (
              user_id, change, created_change, title, description, completed, completed_at, priority, tags,
              due_date, due_time, due_timezone
            )
            select
              ${owner}, list.counter, list.counter, ${title}, ${description}, ${completed}::boolean,
              case when ${completed}::boolean then now() end, ${priority}, ${arrayOf(database, tags)},
              ${due_date}::date, ${due_time}::time, ${due_timezone}
            from list
            returning *
          )`,
      ).catch(refuseDueDate)
    },

    /**
     * Changes the fields that are given; the others keep their values.
     *
     * @throws ApiError 403, 404, 412
     */
    async update(
      owner: string,
      id: number,
      changes: TaskChanges,
      options: WriteOptions,
    ): Promise<WriteAnswer> {
      return write(owner, { id, among: isLive, status: 200 }, options, (allowed) =>
        change(owner, id, allowed, fragment`${assignmentsOf(changes)}, ${updatedNow}`),
      ).catch(refuseDueDate)
    },

    /** @throws ApiError 403, 404, 412 */
    async toggle(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { id, among: isLive, status: 200 }, options, (allowed) =>
        change(owner, id, allowed, fragment`${completion(fragment`not completed`)}, ${updatedNow}`),
      )
    },

    /**
     * Moves the task into the trash.
     *
     * @throws ApiError 403, 404, 412
     */
    async remove(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { id, among: isLive, status: 204 }, options, (allowed) =>
        change(
          owner,
          id,
          allowed,
          fragment`deleted_at = clock_timestamp()`,
          fragment`, task_count = task_count - 1`,
        ),
      )
    },

    /**
     * Takes the task out of the trash.
     *
     * @throws ApiError 403, 404 (also where it is not in the trash), 409 `task_limit_reached`, 412
     */
    async restore(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      const trashed: Target = {
        id,
        among: fragment`deleted_at is not null`,
        status: 200,
        needsRoom: true,
      }
      return write(owner, trashed, options, (allowed) =>
        change(
          owner,
          id,
          fragment`task_count < ${maxTasksPerUser} and ${allowed}`,
          fragment`deleted_at = null, restored_change = list.counter, ${updatedNow}`,
          fragment`, task_count = task_count + 1`,
        ),
      )
    },

    /**
     * Deletes the task for good, wherever it is. For those who follow the changes its id stays
     * known: as deleted when it went into the trash, or now.
     *
     * @throws ApiError 403, 404, 412
     */
    async destroy(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(
        owner,
        { id, among: fragment`true`, status: 204 },
        options,
        (allowed) => fragment`
          list as (
            update todo_api.task_lists set
              counter = counter + 1,
              task_count = task_count - (select count(*) from target where deleted_at is null)
            where user_id = ${owner} and ${allowed}
            returning counter
          ), changed as (
            delete from todo_api.tasks using list where tasks.user_id = ${owner} and id = ${id}
            returning tasks.*
          ), remembered as (
            insert into todo_api.deleted_tasks (id, user_id, change, deleted_at)
            select
              id, user_id,
              case when deleted_at is null then list.counter else change end,
              coalesce(deleted_at, clock_timestamp())
            from changed, list
          )`,
      )
    },
  }

  /** What is set in the task, and in its list beside the counter. */
  function change(
    owner: string,
    id: number,
    allowed: Fragment,
    assignments: Fragment,
    listAssignments = fragment``,
  ): Fragment {
    return fragment`
      list as (
        update todo_api.task_lists set counter = counter + 1 ${listAssignments}
        where user_id = ${owner} and ${allowed}
        returning counter
      ), changed as (
        update todo_api.tasks set ${assignments}, version = version + 1, change = list.counter
        from list where tasks.user_id = ${owner} and id = ${id}
        returning tasks.*
      )`
  }

  /** Of the fields that are given. Where the date goes, the time and the zone of it go, too. */
  function assignmentsOf(changes: TaskChanges): Fragment {
    const { title, description, completed, priority, tags, due_date } = changes
    const gone = due_date === null ? null : undefined
    const { due_time = gone, due_timezone = gone } = changes
    return [
      ...(title === undefined ? [] : [fragment`title = ${title}`]),
      ...(description === undefined ? [] : [fragment`description = ${description}`]),
      ...(completed === undefined ? [] : [completion(fragment`${completed}::boolean`)]),
      ...(priority === undefined ? [] : [fragment`priority = ${priority}`]),
      ...(tags === undefined ? [] : [fragment`tags = ${arrayOf(database, tags)}`]),
      ...(due_date === undefined ? [] : [fragment`due_date = ${due_date}::date`]),
      ...(due_time === undefined ? [] : [fragment`due_time = ${due_time}::time`]),
      ...(due_timezone === undefined ? [] : [fragment`due_timezone = ${due_timezone}`]),
    ].reduce((all, assignment) => fragment`${all}, ${assignment}`)
  }

  function completion(isDone: Fragment): Fragment {
    return fragment`
      completed = ${isDone},
      completed_at = case when ${isDone} then case when completed then completed_at else clock_timestamp() end end`
  }
}

/** What a write is about: one of the owner's tasks among some, or a new one. */
type Target = {
  /** Null: the task is yet to be made. */
  id: number | null
  among: Fragment
  /** What a write that succeeds is answered with. */
  status: number
  /** Whether the list is longer afterwards. */
  needsRoom?: true
}

type Changed = { id: number; version: number; json: string | null }

type Obstacle = {
  task_count: number | null
  is_own: boolean | null
  version: number | null
  json: string | null
}

type Prior = {
  prior_request: string
  prior_status: number
  prior_id: number
  prior_version: number
  prior_json: string | null
}

type KeyedOutcome = (Prior | { prior_request: null }) & {
  is_ours: boolean
  id: number | null
  version: number
  json: string | null
}

function keyedAnswer(
  found: KeyedOutcome,
  status: number,
  idempotency: Idempotency,
): WriteAnswer | undefined {
  if (found.prior_request !== null) return priorAnswer(found, idempotency)
  if (!found.is_ours) throw new ApiError('idempotency_in_progress')
  if (found.id === null) return undefined
  return { status, id: found.id, version: found.version, json: found.json, replayed: false }
}

/** @throws ApiError 422 `idempotency_key_reused` */
function priorAnswer(prior: Prior, { request }: Idempotency): WriteAnswer {
  if (prior.prior_request !== request)
    throw new ApiError('idempotency_key_reused', {
      errors: [{ field: 'Idempotency-Key', detail: 'was used for another request' }],
    })
  return {
    status: prior.prior_status,
    id: prior.prior_id,
    version: prior.prior_version,
    json: prior.prior_json,
    replayed: true,
  }
}

function isMet(precondition: Precondition | undefined, version: number): boolean {
  return (
    precondition === undefined || precondition === 'any version' || precondition.includes(version)
  )
}

/** A partition's key has a name of its own: `idempotency_keys_3_pkey`. */
const keyConstraint = /^idempotency_keys_(\d+_)?pkey$/

function isKeyTaken(error: unknown): boolean {
  return error instanceof StatementFailed && keyConstraint.test(error.constraint ?? '')
}

const invalidParameterValue = '22023'

/** What only the database can know of a due date: the rest of the task, and its time zones. */
function refuseDueDate(error: unknown): never {
  if (!(error instanceof StatementFailed)) throw error
  for (const field of ['due_time', 'due_timezone'])
    if (error.constraint === `${field}_needs_due_date`)
      throw new ApiError('validation_failed', { errors: [{ field, detail: 'needs a due_date' }] })
  if (error.constraint === 'due_at_has_a_year')
    throw new ApiError('validation_failed', {
      errors: [{ field: 'due_date', detail: 'must be in the years 1 to 9999 in UTC, too' }],
    })
  if (error.sqlState === invalidParameterValue)
    throw new ApiError('validation_failed', {
      errors: [
        { field: 'due_timezone', detail: 'must be the name of a time zone, such as Europe/Paris' },
      ],
    })
  throw error
}
