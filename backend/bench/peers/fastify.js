// JavaScript, because Node 20 does not take the types off by itself.
import cors from '@fastify/cors'
import etag from '@fastify/etag'
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import { Pool, types } from 'pg'

types.setTypeParser(types.builtins.DATE, String) // by default an instant

const pool = new Pool({
  connectionString: process.env.DATABASE_URL,
  max: Number(process.env.POOL ?? 10),
})

const columns = `
  id, title, description, completed, priority, tags, due_date, due_time, due_timezone, due_at,
  completed_at, created_at, updated_at, version`

const statements = {
  list: `select ${columns} from tasks where user_id = $1 order by created_at, id`,
  find: `select ${columns} from tasks where id = $1 and user_id = $2`,
  exists: 'select from tasks where id = $1',
  create: `
    insert into tasks (user_id, title, description, completed, priority, tags, due_date, completed_at)
    values ($1, $2, $3, $4, $5, $6, $7, case when $4 then now() end)
    returning ${columns}`,
  update: `
    update tasks set
      title = coalesce($3, title),
      description = case when $4 then $5 else description end,
      completed = coalesce($6, completed),
      completed_at = case when coalesce($6, completed) then coalesce(completed_at, now()) end,
      priority = coalesce($7, priority),
      tags = coalesce($8, tags),
      due_date = case when $9 then $10 else due_date end,
      version = version + 1,
      updated_at = now()
    where id = $1 and user_id = $2
    returning ${columns}`,
  toggle: `
    update tasks set
      completed = not completed,
      completed_at = case when not completed then now() end,
      version = version + 1,
      updated_at = now()
    where id = $1 and user_id = $2
    returning ${columns}`,
}

/**
 * @param {keyof typeof statements} name
 * @param {unknown[]} values
 */
async function run(name, values) {
  const { rows } = await pool.query({ name, text: statements[name], values })
  return rows
}

/** Sends the task, or why the user does not get it. */
async function answer(reply, [task], id) {
  if (task) return task
  const others = await run('exists', [id])
  return others.length > 0
    ? reply.code(403).send({ detail: 'You do not own this task', code: 'not_owner' })
    : reply.code(404).send({ detail: 'Task not found', code: 'task_not_found' })
}

const nullableText = { type: 'string', nullable: true }
const instant = { type: 'string', format: 'date-time' }
const nullableInstant = { ...instant, nullable: true }

const Task = {
  type: 'object',
  properties: {
    id: { type: 'integer' },
    title: { type: 'string' },
    description: nullableText,
    completed: { type: 'boolean' },
    priority: { type: 'string' },
    tags: { type: 'array', items: { type: 'string' } },
    due_date: nullableText,
    due_time: nullableText,
    due_timezone: nullableText,
    due_at: nullableInstant,
    completed_at: nullableInstant,
    created_at: instant,
    updated_at: instant,
    version: { type: 'integer' },
  },
}
const TaskChanges = {
  type: 'object',
  properties: {
    title: { type: 'string', minLength: 1, maxLength: 200 },
    description: { type: 'string', maxLength: 2000, nullable: true },
    completed: { type: 'boolean' },
    priority: { type: 'string', enum: ['none', 'low', 'medium', 'high'] },
    tags: {
      type: 'array',
      maxItems: 20,
      items: { type: 'string', minLength: 1, maxLength: 50 },
    },
    due_date: { type: 'string', format: 'date', nullable: true },
  },
}
const NewTask = { ...TaskChanges, required: ['title'] }
const params = {
  type: 'object',
  properties: { id: { type: 'integer', minimum: 1, maximum: 2 ** 31 - 1 } },
}

const app = Fastify()

await app.register(cors, { origin: 'http://localhost:3000' })
await app.register(jwt, {
  secret: process.env.BETTER_AUTH_SECRET ?? '',
  verify: { algorithms: ['HS256'], cache: true, requiredClaims: ['sub'] },
})

app.setNotFoundHandler((request, reply) =>
  reply.code(404).send({ detail: 'Not found', code: 'route_not_found' }),
)
app.setErrorHandler((error, request, reply) => {
  if (error.validation)
    return reply.code(422).send({ detail: error.message, code: 'validation_failed' })
  if (error.statusCode === 401)
    return reply.code(401).send({ detail: 'Not authenticated', code: 'token_invalid' })
  if (error.statusCode === 400)
    return reply.code(422).send({ detail: error.message, code: 'malformed_json' })
  return reply.code(500).send({ detail: 'Internal error', code: 'internal_error' })
})

app.get(
  '/health',
  {
    schema: { response: { 200: { type: 'object', properties: { status: { type: 'string' } } } } },
  },
  async () => ({ status: 'ok' }),
)

await app.register(
  async function tasks(api) {
    api.addHook('onRequest', async (request) => request.jwtVerify())

    await api.register(async function list(scope) {
      await scope.register(etag)
      scope.get(
        '/',
        { schema: { response: { 200: { type: 'array', items: Task } } } },
        async (request) => run('list', [request.user.sub]),
      )
    })
    api.get('/:id', { schema: { params, response: { 200: Task } } }, async (request, reply) => {
      const { id } = request.params
      return answer(reply, await run('find', [id, request.user.sub]), id)
    })
    api.post(
      '/',
      { schema: { body: NewTask, response: { 201: Task } } },
      async (request, reply) => {
        const { title, description, completed = false, priority = 'none' } = request.body
        const { tags = [], due_date } = request.body
        const [task] = await run('create', [
          request.user.sub,
          title,
          description,
          completed,
          priority,
          tags,
          due_date,
        ])
        reply.code(201)
        return task
      },
    )
    api.put(
      '/:id',
      { schema: { params, body: TaskChanges, response: { 200: Task } } },
      async (request, reply) => {
        const { id } = request.params
        const { title, description, completed, priority, tags, due_date } = request.body
        const updated = await run('update', [
          id,
          request.user.sub,
          title,
          description !== undefined,
          description,
          completed,
          priority,
          tags,
          due_date !== undefined,
          due_date,
        ])
        return answer(reply, updated, id)
      },
    )
    api.patch(
      '/:id/complete',
      { schema: { params, response: { 200: Task } } },
      async (request, reply) => {
        const { id } = request.params
        return answer(reply, await run('toggle', [id, request.user.sub]), id)
      },
    )
  },
  { prefix: '/api/tasks' },
)

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
