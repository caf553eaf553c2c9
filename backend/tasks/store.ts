import type { Database } from '../db/connect.ts'
import { ApiError } from '../errors.ts'
import type { NewTask, Task, TaskChanges, TaskStatus } from './schemas.ts'

export type TaskStore = ReturnType<typeof createTaskStore>

/**
 * The tasks in the database. The owner is the first argument of every function and stands in every
 * statement. Where the task is not the owner's, nothing changes and they throw ApiError `not_owner`
 * (it is somebody else's) or `task_not_found` (it is nobody's).
 */
export function createTaskStore({ query, fragment }: Database) {
  // PostgreSQL writes the instants: a Date would have to be parsed and printed for every row.
  const task = fragment`
    id, title, description, completed,
    to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as created_at,
    to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as updated_at`

  async function ownedBy(owner: string, id: number, [found]: Task[]): Promise<Task> {
    return found ?? (await explainAbsence(owner, id))
  }

  async function explainAbsence(owner: string, id: number): Promise<never> {
    const others = await query`select from tasks where id = ${id} and user_id <> ${owner}`
    throw new ApiError(others.length > 0 ? 'not_owner' : 'task_not_found')
  }

  return {
    /** Oldest first. */
    async list(owner: string, status: TaskStatus): Promise<Task[]> {
      return query<Task>`
        select ${task} from tasks
        where user_id = ${owner} and (${status} = 'all' or completed = (${status} = 'completed'))
        order by tasks.created_at, id`
    },

    async find(owner: string, id: number): Promise<Task> {
      const rows = await query<Task>`
        select ${task} from tasks where user_id = ${owner} and id = ${id}`
      return ownedBy(owner, id, rows)
    },

    async create(owner: string, { title, description, completed }: NewTask): Promise<Task> {
      const [created] = await query<Task>`
        insert into tasks (user_id, title, description, completed)
        values (${owner}, ${title}, ${description ?? null}, ${completed ?? false})
        returning ${task}`
      return created!
    },

    /** Changes the fields that are given; the others keep their values. */
    async update(owner: string, id: number, changes: TaskChanges): Promise<Task> {
      const { title = null, description = null, completed = null } = changes
      const rows = await query<Task>`
        update tasks set
          title = coalesce(${title}, title),
          description = case when ${'description' in changes} then ${description} else description end,
          completed = coalesce(${completed}, completed),
          updated_at = clock_timestamp()
        where user_id = ${owner} and id = ${id}
        returning ${task}`
      return ownedBy(owner, id, rows)
    },

    async toggle(owner: string, id: number): Promise<Task> {
      const rows = await query<Task>`
        update tasks set completed = not completed, updated_at = clock_timestamp()
        where user_id = ${owner} and id = ${id}
        returning ${task}`
      return ownedBy(owner, id, rows)
    },

    async remove(owner: string, id: number): Promise<void> {
      const rows = await query`
        delete from tasks where user_id = ${owner} and id = ${id} returning id`
      if (rows.length === 0) await explainAbsence(owner, id)
    },
  }
}
