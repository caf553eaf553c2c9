import { zValidator } from '@hono/zod-validator'
import { Hono, type Context } from 'hono'
import { cors } from 'hono/cors'
import { etag } from 'hono/etag'
import { HTTPException } from 'hono/http-exception'
import { jwt, type JwtVariables } from 'hono/jwt'
import { z } from 'zod'
import {
  createTask,
  findTask,
  listTasks,
  refusals,
  toggleTask,
  updateTask,
  type Refusal,
  type Task,
} from './tasks.ts'

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

function validated<Target extends 'json' | 'param', Schema extends z.ZodType>(
  target: Target,
  schema: Schema,
) {
  return zValidator(target, schema, (result, context) => {
    if (result.success) return
    return context.json({ detail: 'Validation failed', code: 'validation_failed' }, 422)
  })
}

type Environment = { Variables: JwtVariables<{ sub: string }> }

function answer(context: Context, found: Task | Refusal) {
  if (typeof found !== 'string') return context.json(found)
  const { status, detail } = refusals[found]
  return context.json({ detail, code: found }, status)
}

const tasks = new Hono<Environment>()
  .use(jwt({ secret: process.env['BETTER_AUTH_SECRET']!, alg: 'HS256' }))
  .get('/', etag(), async (context) => context.json(await listTasks(context.var.jwtPayload.sub)))
  .get('/:id', validated('param', Params), async (context) => {
    const { id } = context.req.valid('param')
    return answer(context, await findTask(context.var.jwtPayload.sub, id))
  })
  .post('/', validated('json', NewTask), async (context) => {
    const task = await createTask(context.var.jwtPayload.sub, context.req.valid('json'))
    return context.json(task, 201)
  })
  .put('/:id', validated('param', Params), validated('json', TaskChanges), async (context) => {
    const { id } = context.req.valid('param')
    const changes = context.req.valid('json')
    return answer(context, await updateTask(context.var.jwtPayload.sub, id, changes))
  })
  .patch('/:id/complete', validated('param', Params), async (context) => {
    const { id } = context.req.valid('param')
    return answer(context, await toggleTask(context.var.jwtPayload.sub, id))
  })

const app = new Hono()
  .use(cors({ origin: 'http://localhost:3000' }))
  .get('/health', (context) => context.json({ status: 'ok' }))
  .route('/api/tasks', tasks)
  .notFound((context) => context.json({ detail: 'Not found', code: 'route_not_found' }, 404))
  .onError((error, context) => {
    if (!(error instanceof HTTPException))
      return context.json({ detail: 'Internal error', code: 'internal_error' }, 500)
    return error.status === 401
      ? context.json({ detail: 'Not authenticated', code: 'token_invalid' }, 401)
      : context.json({ detail: 'Malformed JSON', code: 'malformed_json' }, 422)
  })

Bun.serve({ hostname: '127.0.0.1', port: Number(process.env['PORT']), fetch: app.fetch })
