import { Type } from '@sinclair/typebox'
import { t } from 'elysia'
import { DecimalText, Text } from '../http/values.ts'
import { header, instant, Task } from '../tasks/schemas.ts'

export const ChangesQuery = t.Object({
  since: t.Optional(
    Text({
      minLength: 1,
      maxLength: 100,
      description: 'A Sync-Token, or the `sync_token` of the page before. Without it: everything',
    }),
  ),
  limit: t.Optional(DecimalText({ maximum: 1000, description: 'Changes on a page. Default: 500' })),
})

export const Changes = t.Object(
  {
    items: t.Array(Task, { description: 'Tasks that are new or have changed, as they are now' }),
    deleted: t.Array(
      t.Object({
        id: Type.Integer({ examples: [1] }),
        deleted_at: instant('When it was deleted, in UTC'),
      }),
      { description: 'Tasks that are no longer in the list' },
    ),
    sync_token: t.String({ description: 'Where the next page, or the next look, starts' }),
    has_more: t.Boolean({ description: 'Ask again at once' }),
  },
  { title: 'Changes' },
)
export type Changes = typeof Changes.static

export const EventsQuery = t.Object({
  ticket: t.Optional(
    Text({ maxLength: 100, description: 'In place of the token, for EventSource' }),
  ),
  since: t.Optional(
    Text({
      minLength: 1,
      maxLength: 100,
      description: 'A Sync-Token, or the id of an event: start with what came after it',
    }),
  ),
})

export const EventsHeaders = t.Object({
  'last-event-id': header(
    'The id of the last event that was seen: start with what came after',
    '42',
  ),
})

export const Ticket = t.Object(
  {
    ticket: t.String({ description: 'For ?ticket=, once' }),
    expires_in: Type.Integer({ description: 'Seconds until it is no longer good', examples: [30] }),
  },
  { title: 'Ticket' },
)
export type Ticket = typeof Ticket.static
