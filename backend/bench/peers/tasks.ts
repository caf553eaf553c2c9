import postgres from 'postgres'

const sql = postgres(process.env['DATABASE_URL']!, {
  max: Number(process.env['POOL'] ?? 10),
  types: {
    // By default postgres.js makes a calendar date an instant.
    date: { to: 1082, from: [1082], serialize: String, parse: String },
  },
})

export type Task = {
  id: number
  title: string
  description: string | null
  completed: boolean
  priority: string
  tags: string[]
  due_date: string | null
  due_time: string | null
  due_timezone: string | null
  due_at: Date | null
  completed_at: Date | null
  created_at: Date
  updated_at: Date
  version: number
}

export type TaskChanges = {
  title?: string | undefined
  description?: string | null | undefined
  completed?: boolean | undefined
  priority?: string | undefined
  tags?: string[] | undefined
  due_date?: string | null | undefined
}

export type NewTask = TaskChanges & { title: string }

/** Why a user does not get a task. */
export type Refusal = 'task_not_found' | 'not_owner'

const columns = sql`
  id, title, description, completed, priority, tags, due_date, due_time, due_timezone, due_at,
  completed_at, created_at, updated_at, version`

/** The user's tasks, oldest first. */
export async function listTasks(userId: string): Promise<Task[]> {
  return sql<Task[]>`
    select ${columns} from tasks where user_id = ${userId} order by created_at, id`
}

export async function findTask(userId: string, id: number): Promise<Task | Refusal> {
  const [task] = await sql<[Task?]>`
    select ${columns} from tasks where id = ${id} and user_id = ${userId}`
  return task ?? refusal(id)
}

export async function createTask(userId: string, given: NewTask): Promise<Task> {
  const { title, description = null, completed = false, priority = 'none', tags = [] } = given
  const { due_date = null } = given
  const [task] = await sql<[Task]>`
    insert into tasks (user_id, title, description, completed, priority, tags, due_date, completed_at)
    values (
      ${userId}, ${title}, ${description}, ${completed}, ${priority}, ${tags}, ${due_date},
      case when ${completed} then now() end
    )
    returning ${columns}`
  return task
}

/** Changes the fields that are given. */
export async function updateTask(
  userId: string,
  id: number,
  { title, description, completed, priority, tags, due_date }: TaskChanges,
): Promise<Task | Refusal> {
  const [task] = await sql<[Task?]>`
    update tasks set
      title = ${title ?? sql('title')},
      description = ${description === undefined ? sql('description') : description},
      completed = ${completed ?? sql('completed')},
      completed_at = case when ${completed ?? sql('completed')} then coalesce(completed_at, now()) end,
      priority = ${priority ?? sql('priority')},
      tags = ${tags ?? sql('tags')},
      due_date = ${due_date === undefined ? sql('due_date') : due_date},
      version = version + 1,
      updated_at = now()
    where id = ${id} and user_id = ${userId}
    returning ${columns}`
  return task ?? refusal(id)
}

export async function toggleTask(userId: string, id: number): Promise<Task | Refusal> {
  const [task] = await sql<[Task?]>`
    update tasks set
      completed = not completed,
      completed_at = case when not completed then now() end,
      version = version + 1,
      updated_at = now()
    where id = ${id} and user_id = ${userId}
    returning ${columns}`
  return task ?? refusal(id)
}

async function refusal(id: number): Promise<Refusal> {
  const others = await sql`select from tasks where id = ${id}`
  return others.length > 0 ? 'not_owner' : 'task_not_found'
}

export const refusals = {
  task_not_found: { status: 404, detail: 'Task not found' },
  not_owner: { status: 403, detail: 'You do not own this task' },
} as const
