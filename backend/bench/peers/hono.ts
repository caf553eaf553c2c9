import { zValidator } from '@hono/zod-validator'
import { Hono, type Context } from 'hono'
import { cors } from 'hono/cors'
import { etag } from 'hono/etag'
import { jwt, type JwtVariables } from 'hono/jwt'
import type { Row } from 'postgres'
import { z } from 'zod'
import { createTask, findTask, listTasks, toggleTask, updateTask } from './tasks.ts'

const NewTask = z.object({
  title: z.string().min(1).max(200),
  description: z.string().max(2000).nullable().optional(),
  completed: z.boolean().optional(),
  priority: z.enum(['none', 'low', 'medium', 'high']).optional(),
  tags: z.array(z.string().min(1).max(50)).max(20).optional(),
  due_date: z.iso.date().nullable().optional(),
})
const TaskChanges = NewTask.partial()
const Params = z.object({
  id: z.coerce
    .number()
    .int()
    .min(1)
    .max(2 ** 31 - 1),
})

type Environment = { Variables: JwtVariables<{ sub: string }> }

function answer(context: Context, task: Row | undefined) {
  return task ? context.json(task) : context.body(null, 404)
}

const tasks = new Hono<Environment>()
  .use(jwt({ secret: process.env['BETTER_AUTH_SECRET']!, alg: 'HS256' }))
  .get('/', etag(), async (context) => context.json(await listTasks(context.var.jwtPayload.sub)))
  .get('/:id', zValidator('param', Params), async (context) => {
    const { id } = context.req.valid('param')
    return answer(context, await findTask(context.var.jwtPayload.sub, id))
  })
  .post('/', zValidator('json', NewTask), async (context) => {
    const task = await createTask(context.var.jwtPayload.sub, context.req.valid('json'))
    return context.json(task, 201)
  })
  .put('/:id', zValidator('param', Params), zValidator('json', TaskChanges), async (context) => {
    const { id } = context.req.valid('param')
    const changes = context.req.valid('json')
    return answer(context, await updateTask(context.var.jwtPayload.sub, id, changes))
  })
  .patch('/:id/complete', zValidator('param', Params), async (context) => {
    const { id } = context.req.valid('param')
    return answer(context, await toggleTask(context.var.jwtPayload.sub, id))
  })

const app = new Hono()
  .use(cors({ origin: 'http://localhost:3000' }))
  .get('/health', (context) => context.json({ status: 'ok' }))
  .route('/api/tasks', tasks)

Bun.serve({ hostname: '127.0.0.1', port: Number(process.env['PORT']), fetch: app.fetch })
