import { Failure, Invalid } from '../http/failures.ts'
import { anyRoute, withBody } from '../tasks/contracts.ts'
import { Changes, ChangesQuery, EventsHeaders, EventsQuery, Ticket } from './schemas.ts'

/** What each route takes, answers and says of itself. What it does is in routes.ts. */

const tags = ['Sync and live']

const tokenOrTicket: Record<string, string[]>[] = [{ bearer: [] }, { ticket: [] }]

export const listChanges = {
  query: ChangesQuery,
  response: { 200: Changes, 410: Failure('sync_token_expired'), ...anyRoute },
  detail: {
    tags,
    operationId: 'listChanges',
    summary: 'What changed since a token',
    description:
      'In the order in which it was committed, so that nothing is ever skipped. A token is good for 30 days at least.',
  },
}

export const streamEvents = {
  headers: EventsHeaders,
  query: EventsQuery,
  response: { ...anyRoute },
  detail: {
    tags,
    operationId: 'streamEvents',
    summary: 'Follow my tasks live',
    description: `Server-Sent Events: \`task.created\`, \`task.updated\`, \`task.restored\` with the task, and
\`task.deleted\` with \`{"id": 1}\`; and \`reminder.due\` with \`{"task": …, "fires_at": "…", "late": false}\`, once for
each reminder, to all open streams or else to the next, and for a minute to streams that begin. An event's \`id\` is its place in
the order of changes; sent back in \`Last-Event-ID\`, nothing is lost and nothing comes twice. If that is too far back there is one
event \`resync\`: read the list anew. The stream ends when the token expires.`,
    security: tokenOrTicket,
    'x-answers': {
      // Not made from a schema: the answer has no end.
      200: {
        content: {
          'text/event-stream': {
            schema: { type: 'string' },
            example:
              'id: 42\nevent: task.updated\ndata: {"id":1,"title":"Buy milk","completed":true,"version":2}\n\n',
          },
        },
        headers: {
          'X-Accel-Buffering': {
            description: 'Tells proxies to pass events on at once',
            example: 'no',
          },
        },
      },
    },
  },
}

export const issueTicket = {
  response: {
    201: Ticket,
    ...anyRoute,
    ...withBody,
    422: Invalid('malformed_json', 'validation_failed'),
  },
  detail: {
    tags,
    operationId: 'issueTicket',
    summary: 'Get a ticket for the stream of events',
    description: 'For browsers, whose `EventSource` cannot send a token. Good once.',
  },
}
