import type { Database } from '../db/pool.ts'
import { anySize, unlessTooLarge, type Written } from '../db/written.ts'
import { taskColumns } from './columns.ts'
import { createFinder } from './find.ts'
import type { Idempotency } from './idempotency.ts'
import type { Precondition } from './preconditions.ts'
import type { NewTask, Task, TaskChanges } from './schemas.ts'
import { createBulkWriter, type Bulk } from './writes/bulk.ts'
import { createWaitForRows } from './writes/locked.ts'
import type { Operation } from './writes/operation.ts'
import { createWriter, type WriteAnswer } from './writes/writer.ts'

/** What a client may ask of a write, besides the write. */
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
 * function and stands in every statement. If the task is not the owner's, nothing changes and they
 * throw ApiError `not_owner` (it is somebody else's) or `task_not_found` (it is nobody's).
 */
export function createTaskStore(
  database: Database,
  { maxTasksPerUser, onChange = () => {} }: TaskStoreOptions,
) {
  const { queryFor } = database
  const columns = taskColumns(database)
  const whenFree = createWaitForRows(database)
  const makeWrite = createWriter(database, { maxTasksPerUser, whenFree })
  const makeBulk = createBulkWriter(database, { maxTasksPerUser, whenFree })
  const findTask = createFinder(database)

  async function write(
    owner: string,
    operation: Operation,
    options: WriteOptions,
  ): Promise<WriteAnswer> {
    const answer = await makeWrite({ owner, operation, ...options })
    if (!answer.replayed) onChange(owner)
    return answer
  }

  return {
    /** Whether the owner's task is in the trash; `undefined` if the owner has none with this id. */
    async isInTrash(owner: string, id: number): Promise<boolean | undefined> {
      const [task] = await queryFor(owner)<{ is_in_trash: boolean }>`
        select deleted_at is not null as is_in_trash from todo_api.tasks
        where user_id = ${owner} and id = ${id}`
      return task?.is_in_trash
    },

    /** @throws ApiError 403, 404 */
    find: findTask,

    /** Those of the owner's tasks that have one of these ids, by their ids. */
    async findAll(owner: string, ids: readonly number[]): Promise<Map<number, Task>> {
      const rows = await queryFor(owner)<{ id: number; json: string }>`
        select id, row_to_json(task)::text as json
        from (
          select ${columns} from todo_api.tasks
          where user_id = ${owner} and deleted_at is null
            and id = any (array(select json_array_elements_text(${JSON.stringify(ids)}::text::json)::bigint))
        ) as task`
      return new Map(
        rows.map(({ id, json }) => {
          const task: Task = JSON.parse(json)
          return [id, task]
        }),
      )
    },

    /**
     * What was put into the trash last, as many as may be tasks: a JSON array.
     *
     * @throws NeedsRoom if it has more bytes than `most`
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

    /**
     * Makes up to 100 operations in one statement.
     *
     * @returns what became of each, as a JSON array
     * @throws ApiError 409 `bulk_refused`
     */
    async bulk(asked: Bulk): Promise<{ results: string; replayed: boolean }> {
      const done = await makeBulk(asked)
      if (!done.replayed) onChange(asked.owner)
      return done
    },

    /** @throws ApiError 409 `task_limit_reached` */
    async create(owner: string, fields: NewTask, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { op: 'create', fields }, options)
    },

    /**
     * Changes the fields that are given; the others keep their values. A task that comes again and is
     * completed by it is followed by the next.
     *
     * @throws ApiError 403, 404, 409 `task_limit_reached`, 412
     */
    async update(
      owner: string,
      id: number,
      fields: TaskChanges,
      options: WriteOptions,
    ): Promise<WriteAnswer> {
      return write(owner, { op: 'update', id, fields }, options)
    },

    /** @throws ApiError 403, 404, 409 `task_limit_reached`, 412 */
    async toggle(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { op: 'toggle', id }, options)
    },

    /**
     * Moves the task into the trash.
     *
     * @throws ApiError 403, 404, 412
     */
    async remove(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { op: 'delete', id }, options)
    },

    /**
     * Takes the task out of the trash.
     *
     * @throws ApiError 403, 404 (also if it is not in the trash), 409 `task_limit_reached`, 412
     */
    async restore(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { op: 'restore', id }, options)
    },

    /**
     * Moves the task to the next date of its rule.
     *
     * @throws ApiError 403, 404, 409 `not_recurring` `recurrence_ended`, 412
     */
    async skip(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { op: 'skip', id }, options)
    },

    /**
     * Deletes the task for good, wherever it is. For those who follow the changes its id stays
     * known: as deleted when it went into the trash, or now.
     *
     * @throws ApiError 403, 404, 412
     */
    async destroy(owner: string, id: number, options: WriteOptions): Promise<WriteAnswer> {
      return write(owner, { op: 'destroy', id }, options)
    },
  }
}
