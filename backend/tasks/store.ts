import { StatementFailed, type Database, type Fragment } from '../db/connect.ts'
import { ApiError } from '../errors.ts'
import type { Idempotency } from './idempotency.ts'
import type { Precondition } from './preconditions.ts'
import type { NewTask, TaskChanges } from './schemas.ts'
import { taskColumns } from './sql.ts'

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

/**
 * One task in the database: reading it and changing it. The owner is the first argument of every
 * function and stands in every statement. Where the task is not the owner's, nothing changes and
 * they throw ApiError `not_owner` (it is somebody else's) or `task_not_found` (it is nobody's).
 *
 * Every write is one statement, so that it happens whole or not at all, whatever becomes of the
 * connection: it checks the owner and the version, counts the version and the list's counter up,
 * changes the task and records the answer under the idempotency key.
 */
export function createTaskStore(
  database: Database,
  { maxTasksPerUser, onChange = () => {} }: TaskStoreOptions,
) {
  const { query, fragment } = database
  const columns = taskColumns(database)
  const isLive = fragment`deleted_at is null`
  const jsonOf = (row: Fragment) =>
    fragment`(select row_to_json(task)::text from (select ${columns} from ${row}) task)`

  async function write(
    owner: string,
    { id, among, status }: { id: number | null; among: Fragment; status: number },
    { precondition, idempotency }: WriteOptions,
    changeWhere: (allowed: Fragment) => Fragment,
  ): Promise<WriteAnswer> {
    // The task is locked before the list, always: two writes cannot wait for each other.
    const target = fragment`
      target as (
        select * from tasks where user_id = ${owner} and id = ${id} and ${among} for update
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
    const outcome = fragment`
      target.version as current_version,
      case when answer.id is null then ${jsonOf(fragment`target`)} end as current_json,
      case when ${id}::bigint is not null and target.id is null then
        exists (select from tasks where id = ${id} and user_id <> ${owner} and ${among})
      end as is_others,
      answer.id, answer.version, answer.json`

    const run = async () =>
      idempotency === undefined
        ? query<Outcome>`
            with ${target}, ${changeWhere(isWanted)},
            answer as (select id, version, ${body} as json from changed)
            select ${outcome}
            from (values (1)) as one left join target on true left join answer on true`
        : query<Outcome>`
            with prior as (
              select * from idempotency_keys
              where user_id = ${owner} and key = ${idempotency.key}
                and created_at > now() - interval '24 hours'
            ), turn as (
              -- Held until the end of this statement's transaction: the first request still runs.
              select pg_try_advisory_xact_lock(hashtextextended(${`${owner} ${idempotency.key}`}, 0)) as is_ours
            ), ${target},
            ${changeWhere(fragment`${isWanted} and (select is_ours from turn) and not exists (select from prior)`)},
            answer as (select id, version, ${body} as json from changed),
            recorded as (
              insert into idempotency_keys (user_id, key, request, status, task_id, version, body)
              select ${owner}, ${idempotency.key}, ${idempotency.request}, ${status}::smallint, id, version, json
              from answer
            )
            select
              (select is_ours from turn) as is_ours,
              prior.request as prior_request, prior.status as prior_status, prior.task_id as prior_id,
              prior.version as prior_version, prior.body as prior_json,
              ${outcome}
            from (values (1)) as one
              left join target on true left join answer on true left join prior on true`

    const [found] = await run().catch(async (error: unknown) => {
      if (idempotency === undefined || !isKeyTaken(error)) throw error
      // The first request ended while this one began, or the key is a day old. Nothing was changed.
      await query`
        delete from idempotency_keys
        where user_id = ${owner} and key = ${idempotency.key}
          and created_at <= now() - interval '24 hours'`
      return run()
    })
    const answer = answerOf(found!, status, { precondition, idempotency })
    if (!answer.replayed) onChange(owner)
    return answer
  }

  return {
    /** @throws ApiError 403, 404 */
    async find(owner: string, id: number): Promise<StoredTask> {
      const [found] = await query<StoredTask>`
        select version, row_to_json(task)::text as json
        from (
          select ${columns} from tasks where user_id = ${owner} and id = ${id} and ${isLive}
        ) task`
      if (found) return found
      const others = await query`
        select from tasks where id = ${id} and user_id <> ${owner} and ${isLive}`
      throw new ApiError(others.length > 0 ? 'not_owner' : 'task_not_found')
    },

    /** What was put into the trash last, as many as may be tasks: a JSON array. */
    async trash(owner: string): Promise<string> {
      const [found] = await query<{ json: string }>`
        select '[' || coalesce(string_agg(row_to_json(task)::text, ','), '') || ']' as json
        from (
          select ${columns}, to_char(deleted_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as deleted_at
          from tasks where user_id = ${owner} and deleted_at is not null
          order by tasks.deleted_at desc, id desc
          limit ${maxTasksPerUser}::int
        ) task`
      return found!.json
    },

    /** @throws ApiError 409 `task_limit_reached` */
    async create(owner: string, task: NewTask, options: WriteOptions): Promise<WriteAnswer> {
      const { title, description = null, completed = false, priority = 'none', tags = [] } = task
      const { due_date = null, due_time = null, due_timezone = null } = task
      return write(
        owner,
        { id: null, among: isLive, status: 201 },
        options,
        (allowed) => fragment`
          list as (
            insert into task_lists as list (user_id, counter, task_count)
            select ${owner}, 1, 1 where ${allowed}
            on conflict (user_id) do update
              set counter = list.counter + 1, task_count = list.task_count + 1
              where list.task_count < ${maxTasksPerUser}
            returning counter
          ), changed as (
            insert into tasks (
              user_id, change, created_change, title, description, completed, completed_at, priority, tags,
              due_date, due_time, due_timezone
            )
            select
              ${owner}, list.counter, list.counter, ${title}, ${description}, ${completed}::boolean,
              case when ${completed}::boolean then now() end, ${priority}::task_priority, ${asArray(tags)},
              ${due_date}::date, ${due_time}::time, ${due_timezone}
            from list
            returning *
          )`,
      ).catch(refuseDueDate)
    },

    /**
     * Changes the fields that are given; the others keep their values. Only where the date goes,
     * the time and the zone of it go, too.
     *
     * @throws ApiError 403, 404, 412
     */
    async update(
      owner: string,
      id: number,
      changes: TaskChanges,
      options: WriteOptions,
    ): Promise<WriteAnswer> {
      const { title = null, description = null, completed = null, priority = null, tags } = changes
      const { due_date = null, due_time = null, due_timezone = null } = changes
      const clearsDueDate = 'due_date' in changes && due_date === null
      const given = (field: keyof TaskChanges) => field in changes
      const isDone = fragment`coalesce(${completed}::boolean, completed)`
      return write(owner, { id, among: isLive, status: 200 }, options, (allowed) =>
        change(
          owner,
          id,
          allowed,
          fragment`
            title = coalesce(${title}, title),
            description = case when ${given('description')}::boolean then ${description} else description end,
            priority = coalesce(${priority}::task_priority, priority),
            tags = case when ${tags !== undefined}::boolean then ${asArray(tags ?? [])} else tags end,
            due_date = case when ${given('due_date')}::boolean then ${due_date}::date else due_date end,
            due_time = case when ${given('due_time') || clearsDueDate}::boolean then ${due_time}::time else due_time end,
            due_timezone = case when ${given('due_timezone') || clearsDueDate}::boolean then ${due_timezone} else due_timezone end,
            ${completion(isDone)}`,
        ),
      ).catch(refuseDueDate)
    },

    /** @throws ApiError 403, 404, 412 */
    async toggle(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { id, among: isLive, status: 200 }, options, (allowed) =>
        change(owner, id, allowed, completion(fragment`not completed`)),
      )
    },

    /**
     * Moves the task into the trash.
     *
     * @throws ApiError 403, 404, 412
     */
    async remove(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(
        owner,
        { id, among: isLive, status: 204 },
        options,
        (allowed) => fragment`
          list as (
            update task_lists set counter = counter + 1, task_count = task_count - 1
            where user_id = ${owner} and ${allowed}
            returning counter
          ), changed as (
            update tasks set
              deleted_at = clock_timestamp(), version = version + 1, change = list.counter
            from list where tasks.user_id = ${owner} and id = ${id}
            returning tasks.*
          )`,
      )
    },

    /**
     * Takes the task out of the trash.
     *
     * @throws ApiError 403, 404 (also where it is not in the trash), 409 `task_limit_reached`, 412
     */
    async restore(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(
        owner,
        { id, among: fragment`deleted_at is not null`, status: 200 },
        options,
        (allowed) => fragment`
          list as (
            update task_lists set counter = counter + 1, task_count = task_count + 1
            where user_id = ${owner} and task_count < ${maxTasksPerUser} and ${allowed}
            returning counter
          ), changed as (
            update tasks set
              deleted_at = null, version = version + 1, change = list.counter,
              restored_change = list.counter, updated_at = clock_timestamp()
            from list where tasks.user_id = ${owner} and id = ${id}
            returning tasks.*
          )`,
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
            update task_lists set
              counter = counter + 1,
              task_count = task_count - (select count(*) from target where deleted_at is null)
            where user_id = ${owner} and ${allowed}
            returning counter
          ), changed as (
            delete from tasks using list where tasks.user_id = ${owner} and id = ${id}
            returning tasks.*
          ), remembered as (
            insert into deleted_tasks (id, user_id, change, deleted_at)
            select
              id, user_id,
              case when deleted_at is null then list.counter else change end,
              coalesce(deleted_at, clock_timestamp())
            from changed, list
          )`,
      )
    },
  }

  function change(owner: string, id: number, allowed: Fragment, assignments: Fragment): Fragment {
    return fragment`
      list as (
        update task_lists set counter = counter + 1
        where user_id = ${owner} and ${allowed}
        returning counter
      ), changed as (
        update tasks set
          ${assignments},
          version = version + 1, change = list.counter, updated_at = clock_timestamp()
        from list where tasks.user_id = ${owner} and id = ${id}
        returning tasks.*
      )`
  }

  function completion(isDone: Fragment): Fragment {
    return fragment`
      completed = ${isDone},
      completed_at = case when ${isDone} then case when completed then completed_at else clock_timestamp() end end`
  }

  function asArray(texts: string[]): Fragment {
    return fragment`array(select json_array_elements_text(${JSON.stringify(texts)}::text::json))`
  }
}

type Outcome = {
  is_ours?: boolean
  prior_request?: string | null
  prior_status?: number
  prior_id?: number
  prior_version?: number
  prior_json?: string | null
  current_version: number | null
  current_json: string | null
  is_others: boolean | null
  id: number | null
  version: number
  json: string | null
}

function answerOf(
  found: Outcome,
  status: number,
  { precondition, idempotency }: WriteOptions,
): WriteAnswer {
  if (idempotency && found.prior_request) {
    if (found.prior_request !== idempotency.request)
      throw new ApiError('idempotency_key_reused', {
        errors: [{ field: 'Idempotency-Key', detail: 'was used for another request' }],
      })
    return {
      status: found.prior_status!,
      id: found.prior_id!,
      version: found.prior_version!,
      json: found.prior_json ?? null,
      replayed: true,
    }
  }
  if (idempotency && !found.is_ours) throw new ApiError('idempotency_in_progress')
  if (found.id !== null)
    return { status, id: found.id, version: found.version, json: found.json, replayed: false }
  if (found.current_version !== null && !isMet(precondition, found.current_version))
    throw new ApiError('version_conflict', { current: found.current_json! })
  // Without a task to be found, or with one that was: all that can be in the way is the limit.
  if (found.is_others === null || found.current_version !== null)
    throw new ApiError('task_limit_reached')
  throw new ApiError(found.is_others ? 'not_owner' : 'task_not_found')
}

function isMet(precondition: Precondition | undefined, version: number): boolean {
  return (
    precondition === undefined || precondition === 'any version' || precondition.includes(version)
  )
}

function isKeyTaken(error: unknown): boolean {
  return error instanceof StatementFailed && error.constraint === 'idempotency_keys_pkey'
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
