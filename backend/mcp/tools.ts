import { Type, type Static, type TObject, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { t } from 'elysia'
import type { Scope } from '../auth/scopes.ts'
import { createReader } from '../http/body.ts'
import { ApiError } from '../http/failures.ts'
import { expectation } from '../http/values.ts'
import { readIdempotency } from '../tasks/idempotency.ts'
import { refuseParameter } from '../tasks/list/request.ts'
import type { TaskList } from '../tasks/list/list.ts'
import { refusePageNumbers, tidyQuery } from '../tasks/list/query.ts'
import { ListQuery, NewTask, keptFields, TaskChanges } from '../tasks/schemas.ts'
import type { TaskStore } from '../tasks/store.ts'

/** What the tools are made of. */
export type ToolParts = { tasks: TaskStore; list: TaskList }

/** Arguments as they came, by their names. */
type Given = Record<string, unknown>

export type Tool = {
  name: string
  description: string
  /** JSON Schema */
  inputSchema: { type: 'object' }
  annotations: Annotations
  /** What its bearer must be allowed to do. */
  scope: Scope
  /**
   * @param most bytes that its JSON may have
   * @returns JSON
   * @throws ApiError; NeedsRoom if it would have more
   */
  run: (parts: ToolParts, owner: string, given: Given, most: number) => Promise<string>
}

/** What a tool tells clients about its effects, so that they know when to ask their user. */
type Annotations = {
  title: string
  readOnlyHint: boolean
  destructiveHint: boolean
  idempotentHint: boolean
  openWorldHint: boolean
}

/**
 * Other names of fields, for existing front ends. They are understood, like those parameters of lists that
 * Asked leaves out, but agents need not know them.
 */
const spellings = ['recurrence_rule', 'recurrence_pattern', 'reminder_at']

const usualPage = 50
const largestPage = 100

const version = { minimum: 1, maximum: Number.MAX_SAFE_INTEGER }
const Id = t.Object({
  id: Type.Integer({ ...version, description: 'Of the task; see list_tasks' }),
})
const IfVersion = t.Object({
  if_version: t.Optional(
    Type.Integer({ ...version, description: 'Change nothing if its version is another by now' }),
  ),
})
const Once = t.Object({
  idempotency_key: t.Optional(
    t.String({
      pattern: '^[!-~]{1,255}$',
      description: 'Your name for this call, such as a UUID: sent again, it adds no second task',
      [expectation]: '1 to 255 visible ASCII characters, such as a UUID',
    }),
  ),
})
const Completed = t.Object({
  completed: t.Optional(t.Boolean({ default: true, description: 'false takes it back' })),
})
const { status, q, tag, priority, sort, cursor } = ListQuery.properties
const Asked = t.Object({
  status,
  q,
  tag: t.Optional({ ...tag, description: 'Tasks that have this tag; of a list, all of them' }),
  priority,
  overdue: t.Optional(t.Boolean({ description: 'Tasks that are late, or those that are not' })),
  sort,
  limit: t.Optional(
    Type.Integer({
      minimum: 1,
      maximum: largestPage,
      description: `Tasks on a page. Default: ${usualPage}`,
    }),
  ),
  cursor: t.Optional({
    ...cursor,
    description: 'Where the page starts: next_cursor of the one before, with the same arguments',
  }),
})

const readId = argumentsOf(Id)
const readIfVersion = argumentsOf(IfVersion)
const readOnce = argumentsOf(Once)
const readAsked = argumentsOf(t.Object({ ...ListQuery.properties, limit: Asked.properties.limit }))
const readNewTask = argumentsOf(NewTask)
const readChanges = argumentsOf(TaskChanges)
const readCompletion = argumentsOf(Completed)

/** In the order in which clients are told of them; those that read come first. */
export const tools: readonly Tool[] = [
  {
    name: 'list_tasks',
    description:
      'Lists the user’s tasks, oldest first unless sort says otherwise. total counts all that match; next_cursor, if present, gets the next page.',
    inputSchema: inputOf(Asked),
    annotations: { ...hints('List tasks'), readOnlyHint: true },
    scope: 'tasks:read',
    async run({ list }, owner, given, most) {
      const { limit = usualPage, ...asked } = readAsked(asQuery(given))
      const query = { ...asked, limit }
      const page = await list(owner, query, undefined, most).catch(refuseCursor)
      if (page.state === 'unchanged') throw new TypeError('nobody holds this page already')
      const next = page.next === undefined ? '' : `,"next_cursor":${JSON.stringify(page.next)}`
      return `{"tasks":${page.json},"total":${page.total}${next}}`
    },
  },
  {
    name: 'get_task',
    description: 'Gives one task.',
    inputSchema: inputOf(Id),
    annotations: { ...hints('Get a task'), readOnlyHint: true },
    scope: 'tasks:read',
    async run({ tasks }, owner, given) {
      const { json } = await tasks.find(owner, readId(given).id)
      return json
    },
  },
  {
    name: 'add_task',
    description: 'Adds a task, and gives it.',
    inputSchema: inputOf(NewTask, Once),
    annotations: { ...hints('Add a task'), idempotentHint: false },
    scope: 'tasks:write',
    async run({ tasks }, owner, given) {
      const { idempotency_key: key } = readOnce(given)
      const task = readNewTask(given)
      // The same name as for POST /api/tasks, so that one key covers both.
      const idempotency = readIdempotency(key, ['create', task, undefined])
      const { json } = await tasks.create(owner, keptFields(task), { idempotency })
      return json!
    },
  },
  {
    name: 'update_task',
    description: 'Changes fields of a task; those that are left out keep their values.',
    inputSchema: inputOf(Id, TaskChanges, IfVersion),
    annotations: hints('Update a task'),
    scope: 'tasks:write',
    async run({ tasks }, owner, given) {
      const { id } = readId(given)
      const { if_version: only } = readIfVersion(given)
      const precondition = only === undefined ? undefined : [only]
      const changes = keptFields(readChanges(given))
      const { json } = await tasks.update(owner, id, changes, { precondition })
      return json!
    },
  },
  {
    name: 'complete_task',
    description: 'Sets whether a task is completed; it never toggles.',
    inputSchema: inputOf(Id, Completed),
    annotations: hints('Complete a task'),
    scope: 'tasks:write',
    async run({ tasks }, owner, given) {
      const { id } = readId(given)
      const { completed = true } = readCompletion(given)
      const { json } = await tasks.update(owner, id, { completed }, {})
      return json!
    },
  },
  {
    name: 'delete_task',
    description:
      'Moves a task into the trash, from which restore_task takes it for 30 days. Doing it again is no error.',
    inputSchema: inputOf(Id),
    annotations: { ...hints('Delete a task'), destructiveHint: true },
    scope: 'tasks:write',
    async run({ tasks }, owner, given) {
      const { id } = readId(given)
      await unlessDone(
        async () => tasks.remove(owner, id, {}),
        async () => tasks.isInTrash(owner, id),
      )
      return JSON.stringify({ id, deleted: true })
    },
  },
  {
    name: 'restore_task',
    description: 'Takes a task out of the trash. Doing it again is no error.',
    inputSchema: inputOf(Id),
    annotations: hints('Restore a task'),
    scope: 'tasks:write',
    async run({ tasks }, owner, given) {
      const { id } = readId(given)
      const task = await unlessDone(
        async () =>
          tasks.restore(owner, id, {}).catch(async (error: unknown) => {
            if (!isMissing(error)) throw error
            return tasks.find(owner, id) // in the list already
          }),
        async () => ((await tasks.isInTrash(owner, id)) === undefined ? undefined : false),
      )
      return task!.json!
    },
  },
]

function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'task_not_found'
}

const mostAttempts = 10

/**
 * Does something unless it has been done already, which is not an error. Others may do and undo it meanwhile.
 *
 * @param isDone `undefined` if there is nothing to do it to
 * @returns undefined if it was done already
 */
async function unlessDone<Done>(
  act: () => Promise<Done>,
  isDone: () => Promise<boolean | undefined>,
): Promise<Done | undefined> {
  for (let attempt = 1; ; attempt += 1)
    try {
      return await act()
    } catch (error) {
      if (!isMissing(error) || attempt === mostAttempts) throw error
      const done = await isDone()
      if (done === undefined) throw error
      if (done) return undefined
    }
}

function hints(title: string): Annotations {
  return {
    title,
    readOnlyHint: false,
    destructiveHint: false,
    idempotentHint: true,
    openWorldHint: false,
  }
}

/** The arguments of all of these in one schema, as clients are told. */
function inputOf(...schemas: TObject[]): Tool['inputSchema'] {
  const required = schemas.flatMap((schema) => schema.required ?? [])
  const properties = Object.fromEntries(
    schemas
      .flatMap((schema) => Object.entries<object>(schema.properties))
      .filter(([name]) => !spellings.includes(name)),
  )
  const schema = { type: 'object' as const, properties, ...(required.length > 0 && { required }) }
  return schema
}

/** Reads what a schema names out of the arguments, by the rules for bodies. */
function argumentsOf<Schema extends TSchema>(schema: Schema): (given: Given) => Static<Schema> {
  const read = createReader(schema, 'arguments')
  return (given) => Value.Decode(schema, read(given))
}

/**
 * The arguments of a list as a request over HTTP has them.
 *
 * @throws ApiError 422
 */
function asQuery(given: Given): Given {
  refusePageNumbers((name) => Object.hasOwn(given, name) && given[name] !== '', 'next_cursor')
  const query = { ...given }
  for (const name of ['overdue', 'completed'])
    if (typeof query[name] === 'boolean') query[name] = String(query[name])
  tidyQuery(query, new URLSearchParams())
  return query
}

/** Where a cursor comes from here. */
function refuseCursor(error: unknown): never {
  if (error instanceof ApiError && error.errors?.[0]?.field === 'cursor')
    refuseParameter('cursor', 'must be one from next_cursor, with the same other arguments')
  throw error
}
