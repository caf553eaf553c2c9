import { cors } from '@elysiajs/cors'
import { jwt } from '@elysiajs/jwt'
import { Elysia, status, t } from 'elysia'
import { createTask, findTask, listTasks, toggleTask, updateTask } from './tasks.ts'

const fields = {
  description: t.Optional(t.Nullable(t.String({ maxLength: 2000 }))),
  completed: t.Optional(t.Boolean()),
  // Not UnionEnum: its first value becomes the default, also in changes.
  priority: t.Optional(
    t.Union([t.Literal('none'), t.Literal('low'), t.Literal('medium'), t.Literal('high')]),
  ),
  tags: t.Optional(t.Array(t.String({ minLength: 1, maxLength: 50 }), { maxItems: 20 })),
  due_date: t.Optional(t.Nullable(t.String({ format: 'date' }))),
}
const title = t.String({ minLength: 1, maxLength: 200 })
const NewTask = t.Object({ title, ...fields })
const TaskChanges = t.Object({ title: t.Optional(title), ...fields })
const params = t.Object({ id: t.Integer({ minimum: 1, maximum: 2 ** 31 - 1 }) })

const tasks = new Elysia({ prefix: '/api/tasks' })
  .use(jwt({ name: 'jwt', secret: process.env['BETTER_AUTH_SECRET']! }))
  .derive(async function authenticate({ jwt: tokens, headers: { authorization } }) {
    const token = authorization?.startsWith('Bearer ') ? authorization.slice(7) : undefined
    const claims = await tokens.verify(token)
    if (claims === false || claims.sub === undefined) return status(401)
    return { userId: claims.sub }
  })
  .get('/', async ({ userId, headers, set }) => {
    const body = JSON.stringify(await listTasks(userId))
    const tag = `"${Bun.hash(body).toString(36)}"`
    set.headers.etag = tag
    if (headers['if-none-match'] === tag) return status(304)
    set.headers['content-type'] = 'application/json'
    return body
  })
  .get('/:id', async ({ userId, params: { id } }) => (await findTask(userId, id)) ?? status(404), {
    params,
  })
  .post('/', async ({ userId, body }) => status(201, await createTask(userId, body)), {
    body: NewTask,
  })
  .put(
    '/:id',
    async ({ userId, params: { id }, body }) => (await updateTask(userId, id, body)) ?? status(404),
    { params, body: TaskChanges },
  )
  .patch(
    '/:id/complete',
    async ({ userId, params: { id } }) => (await toggleTask(userId, id)) ?? status(404),
    { params },
  )

new Elysia()
  .use(cors({ origin: 'http://localhost:3000' }))
  .get('/health', { status: 'ok' })
  .use(tasks)
  .listen({ hostname: '127.0.0.1', port: Number(process.env['PORT']) })
