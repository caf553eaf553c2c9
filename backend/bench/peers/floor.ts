/**
 * What Bun, postgres.js and the statements of backend/tasks/ cost by themselves. The statements do
 * the same work in the database, and give rows in place of JSON.
 */
import postgres from 'postgres'

const sql = postgres(process.env['DATABASE_URL']!, {
  max: Number(process.env['POOL'] ?? 10),
  types: {
    // Ids and counts stay below 2^53, where a number is exact.
    bigint: { to: 20, from: [20], serialize: String, parse: Number },
    // By default postgres.js makes a calendar date an instant.
    date: { to: 1082, from: [1082], serialize: String, parse: String },
  },
})
const maxTasksPerUser = Number(process.env['MAX_TASKS_PER_USER'] ?? 10_000)

type Fields = {
  title: string
  description: string | null
  completed: boolean
  priority: string
  tags: string[]
  due_date: string | null
}

const columns = sql`
  id, title, description, completed, priority, tags, due_date,
  to_char(due_time, 'HH24:MI') as due_time, due_timezone, due_at, completed_at, created_at,
  updated_at, version`

function ownerOf({ headers }: Request): string {
  return headers.get('x-user') ?? ''
}

function answer([task]: postgres.RowList<postgres.Row[]>, status = 200): Response {
  return task === undefined
    ? Response.json({ detail: 'Task not found', code: 'task_not_found' }, { status: 404 })
    : Response.json(task, { status })
}

Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.env['PORT']),
  routes: {
    '/health': () => Response.json({ status: 'ok' }),
    '/api/tasks': {
      async GET(request) {
        const tasks = await sql`
          select ${columns} from todo_api.tasks
          where user_id = ${ownerOf(request)} and deleted_at is null
          order by created_at, id`
        const body = JSON.stringify(tasks)
        const etag = `"${Bun.hash(body).toString(36)}"`
        return request.headers.get('if-none-match') === etag
          ? new Response(null, { status: 304, headers: { etag } })
          : new Response(body, { headers: { etag, 'content-type': 'application/json' } })
      },
      async POST(request) {
        const owner = ownerOf(request)
        const given = (await request.json()) as Partial<Fields>
        const { title = '', description = null, completed = false, priority = 'none' } = given
        const { tags = [], due_date = null } = given
        const created = await sql`
          with list as (
            insert into todo_api.task_lists as list (user_id, counter, task_count)
            values (${owner}, 1, 1)
            on conflict (user_id) do update
              set counter = list.counter + 1, task_count = list.task_count + 1
              where list.task_count < ${maxTasksPerUser}
            returning counter
          ), changed as (
            insert into todo_api.tasks (
              user_id, change, created_change, title, description, completed, completed_at, priority, tags,
              due_date
            )
            select
              ${owner}, list.counter, list.counter, ${title}, ${description}, ${completed}::boolean,
              case when ${completed}::boolean then now() end, ${priority},
              ${tags}::text[], ${due_date}::date
            from list
            returning *
          )
          select ${columns} from changed`
        return answer(created, 201)
      },
    },
    '/api/tasks/:id': {
      async GET(request) {
        const found = await sql`
          select ${columns} from todo_api.tasks
          where user_id = ${ownerOf(request)} and id = ${Number(request.params.id)}
            and deleted_at is null`
        return answer(found)
      },
      async PUT(request) {
        const owner = ownerOf(request)
        const id = Number(request.params.id)
        const changes = (await request.json()) as Partial<Fields>
        const { title = null, description = null, completed = null, priority = null } = changes
        const { tags = [], due_date = null } = changes
        const given = (field: keyof Fields) => field in changes
        const clearsDueDate = given('due_date') && due_date === null
        const isDone = sql`coalesce(${completed}::boolean, completed)`
        const updated = await sql`
          with target as (
            select * from todo_api.tasks
            where user_id = ${owner} and id = ${id} and deleted_at is null for update
          ), list as (
            update todo_api.task_lists set counter = counter + 1
            where user_id = ${owner} and exists (select from target)
            returning counter
          ), changed as (
            update todo_api.tasks set
              title = coalesce(${title}, title),
              description = case when ${given('description')}::boolean then ${description} else description end,
              priority = coalesce(${priority}, priority),
              tags = case when ${given('tags')}::boolean then ${tags}::text[] else tags end,
              due_date = case when ${given('due_date')}::boolean then ${due_date}::date else due_date end,
              due_time = case when ${clearsDueDate}::boolean then null else due_time end,
              due_timezone = case when ${clearsDueDate}::boolean then null else due_timezone end,
              completed = ${isDone},
              completed_at = case when ${isDone} then case when completed then completed_at else clock_timestamp() end end,
              version = version + 1, change = list.counter, updated_at = clock_timestamp()
            from list where tasks.user_id = ${owner} and id = ${id}
            returning tasks.*
          )
          select ${columns} from changed`
        return answer(updated)
      },
    },
    '/api/tasks/:id/complete': {
      async PATCH(request) {
        const owner = ownerOf(request)
        const id = Number(request.params.id)
        const toggled = await sql`
          with target as (
            select * from todo_api.tasks
            where user_id = ${owner} and id = ${id} and deleted_at is null for update
          ), list as (
            update todo_api.task_lists set counter = counter + 1
            where user_id = ${owner} and exists (select from target)
            returning counter
          ), changed as (
            update todo_api.tasks set
              completed = not completed,
              completed_at = case when not completed then clock_timestamp() end,
              version = version + 1, change = list.counter, updated_at = clock_timestamp()
            from list where tasks.user_id = ${owner} and id = ${id}
            returning tasks.*
          )
          select ${columns} from changed`
        return answer(toggled)
      },
    },
  },
})
