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
  create: `
    insert into tasks (user_id, title, description, completed, priority, tags, due_date, completed_at)
    values ($1, $2, $3, $4, $5, $6, $7, case when $4 then now() end)
    returning ${columns}`,
  update: `
    update tasks set
      title = coalesce($3, title),
      description = case when $9 then $4 else description end,
      completed = coalesce($5, completed),
      completed_at = case when coalesce($5, completed) then coalesce(completed_at, now()) end,
      priority = coalesce($6, priority),
      tags = coalesce($7, tags),
      due_date = case when $10 then $8 else due_date end,
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

/** The only row, which answers 404 if it is not there. */
async function runForOne(reply, name, values) {
  const [task] = await run(name, values)
  return task ?? reply.callNotFound()
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

const status = { type: 'object', properties: { status: { type: 'string' } } }
app.get('/health', { schema: { response: { 200: status } } }, async () => ({ status: 'ok' }))

async function tasks(api) {
  api.addHook('onRequest', async (request) => request.jwtVerify())

  await api.register(async function list(scope) {
    await scope.register(etag)
    const schema = { response: { 200: { type: 'array', items: Task } } }
    scope.get('/', { schema }, async ({ user }) => run('list', [user.sub]))
  })

  const ofOne = { params, response: { 200: Task } }
  api.get('/:id', { schema: ofOne }, async ({ params: { id }, user }, reply) =>
    runForOne(reply, 'find', [id, user.sub]),
  )
  api.patch('/:id/complete', { schema: ofOne }, async ({ params: { id }, user }, reply) =>
    runForOne(reply, 'toggle', [id, user.sub]),
  )
  const ofChanges = { ...ofOne, body: TaskChanges }
  api.put('/:id', { schema: ofChanges }, async ({ params: { id }, body, user }, reply) => {
    const { title, description, completed, priority, tags, due_date } = body
    const sets = [description !== undefined, due_date !== undefined]
    const values = [title, description, completed, priority, tags, due_date]
    return runForOne(reply, 'update', [id, user.sub, ...values, ...sets])
  })
  const ofNew = { body: NewTask, response: { 201: Task } }
  api.post('/', { schema: ofNew }, async ({ body, user }, reply) => {
    const { title, description, completed = false, priority = 'none', tags = [], due_date } = body
    const values = [title, description, completed, priority, tags, due_date]
    reply.code(201)
    return runForOne(reply, 'create', [user.sub, ...values])
  })
}
await app.register(tasks, { prefix: '/api/tasks' })

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
