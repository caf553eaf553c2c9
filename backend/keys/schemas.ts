import { Type } from '@sinclair/typebox'
import { t } from 'elysia'
import { DecimalText, OneOf, TrimmedText } from '../http/values.ts'
import { instant } from '../tasks/schemas.ts'

export const usualDays = 90

export const KeyScope = OneOf(['read', 'write'], {
  description: '`read` reads tasks and follows events; `write` does all else with tasks, too',
})
export type KeyScope = typeof KeyScope.static

const expiresAt = t.Union([instant('Computed'), t.Null()], {
  description: 'When it stops working. Null: never',
})

export const NewKey = t.Object(
  {
    name: TrimmedText({
      minLength: 1,
      maxLength: 100,
      description: 'What you know it by, of 1 to 100 Unicode characters',
      examples: ['Cron job at home'],
    }),
    scope: KeyScope,
    expires_in_days: t.Optional(
      t.Union([Type.Integer({ minimum: 1, maximum: 366 }), t.Null()], {
        description: `1 to 366, or null for a key that never expires. Default: ${usualDays}`,
        examples: [usualDays],
      }),
    ),
  },
  { title: 'NewKey', examples: [{ name: 'Cron job at home', scope: 'read' }] },
)
export type NewKey = typeof NewKey.static

const known = {
  id: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [1] }),
  name: t.String({ examples: ['Cron job at home'] }),
  scope: KeyScope,
}
const start = t.String({ description: 'How the key begins', examples: ['todo_2hVw'] })
const times = { created_at: instant('When it was made, in UTC'), expires_at: expiresAt }

/** A key as it is listed. */
export const Key = t.Object(
  {
    ...known,
    start,
    ...times,
    last_used_at: t.Union([instant('In UTC'), t.Null()], {
      description: 'When it was used last, to the minute. Null: never',
    }),
  },
  { title: 'Key' },
)
export type Key = typeof Key.static

/** A key as it is shown once. */
export const MadeKey = t.Object(
  {
    ...known,
    key: t.String({
      description: 'The key itself, which cannot be shown again. A Bearer token',
      examples: ['todo_2hVwkC0m7Jx9lqDdE4oYtR1sZb8uNfGa5iPpKc3vXhQ'],
    }),
    start,
    ...times,
  },
  { title: 'MadeKey' },
)
export type MadeKey = typeof MadeKey.static

export const KeyParams = t.Object({
  id: DecimalText({ maximum: Number.MAX_SAFE_INTEGER, description: 'The id of a key' }),
})
