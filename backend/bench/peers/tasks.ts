import postgres, { type Row } from 'postgres'

const sql = postgres(process.env['DATABASE_URL']!, {
  max: Number(process.env['POOL'] ?? 10),
  types: {
    // By default postgres.js makes a calendar date an instant.
    date: { to: 1082, from: [1082], serialize: String, parse: String },
  },
})

export type TaskChanges = {
  title?: string | undefined
  description?: string | null | undefined
  completed?: boolean | undefined
  priority?: string | undefined
  tags?: string[] | undefined
  due_date?: string | null | undefined
}

export type NewTask = TaskChanges & { title: string }

const columns = sql`
  id, title, description, completed, priority, tags, due_date, due_time, due_timezone, due_at,
  completed_at, created_at, updated_at, version`

/** The user's tasks, oldest first. */
export async function listTasks(userId: string): Promise<Row[]> {
  return sql`
    select ${columns} from tasks where user_id = ${userId} order by created_at, id`
}

export async function findTask(userId: string, id: number): Promise<Row | undefined> {
  const [task] = await sql`
    select ${columns} from tasks where id = ${id} and user_id = ${userId}`
  return task
}

export async function createTask(userId: string, given: NewTask): Promise<Row | undefined> {
  const { title, description = null, completed = false, priority = 'none', tags = [] } = given
  const { due_date = null } = given
  const [task] = await sql`
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
): Promise<Row | undefined> {
  const [task] = await sql`
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
  return task
}

export async function toggleTask(userId: string, id: number): Promise<Row | undefined> {
  const [task] = await sql`
    update tasks set
      completed = not completed,
      completed_at = case when not completed then now() end,
      version = version + 1,
      updated_at = now()
    where id = ${id} and user_id = ${userId}
    returning ${columns}`
  return task
}
