import { Type } from '@sinclair/typebox'
import { t } from 'elysia'
import { RowId, Text, TrimmedText } from '../validation.ts'

const title = TrimmedText({
  minLength: 1,
  maxLength: 200,
  description: 'White space around it is removed. 1 to 200 Unicode characters',
  examples: ['Buy milk'],
})
const description = t.Union([Text({ maxLength: 1000, examples: ['2 litres, oat'] }), t.Null()], {
  description: 'Up to 1000 Unicode characters, or null',
})
const completed = t.Boolean({ examples: [false] })

const instant = (what: string) =>
  t.String({ format: 'date-time', description: what, examples: ['2026-03-01T09:30:00.123Z'] })

export const Task = t.Object({
  // TypeBox's own: Elysia's also takes text, and the documentation would say so.
  id: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [1] }),
  title: t.String({ examples: ['Buy milk'] }),
  description: t.Union([t.String(), t.Null()], { examples: ['2 litres, oat'] }),
  completed: t.Boolean({ examples: [false] }),
  created_at: instant('When it was created, in UTC'),
  updated_at: instant('When it was last changed, in UTC'),
})
export type Task = typeof Task.static

export const NewTask = t.Object({
  title,
  description: t.Optional(description),
  completed: t.Optional(completed),
})
export type NewTask = typeof NewTask.static

export const TaskChanges = t.Object(
  {
    title: t.Optional(title),
    description: t.Optional(description),
    completed: t.Optional(completed),
  },
  { minProperties: 1, description: 'A field that is left out keeps its value' },
)
export type TaskChanges = typeof TaskChanges.static

export const Completion = t.Object(
  { completed: t.Optional(completed) },
  // An empty object never gets here: Elysia takes it for an optional body that is not there.
  { minProperties: 1, description: 'With `{}`, or no body at all, the task is toggled' },
)

export const TaskParams = t.Object(
  { id: RowId({ description: 'The id of a task' }) },
  // The path may name the user, too: see currentUser.
  { additionalProperties: true },
)

export const TaskStatus = t.UnionEnum(['all', 'pending', 'completed'], { default: 'all' })
export type TaskStatus = typeof TaskStatus.static

export const TaskQuery = t.Object({ status: t.Optional(TaskStatus) })
