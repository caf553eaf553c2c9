import { Elysia, t } from 'elysia'
import type { Query } from './db/connect.ts'
import { Failure } from './errors.ts'

const tags = ['Health']

/** For whoever runs the server: is it alive, and can it serve? */
export function health(query: Query) {
  let look: Promise<unknown> | undefined
  return new Elysia({ name: 'health' })
    .get('/health', async () => ({ status: 'ok' as const }), {
      response: { 200: t.Object({ status: t.Literal('ok') }) },
      detail: {
        tags,
        summary: 'Is the process alive?',
        description:
          'Touches nothing, the database least of all: a probe would keep a database that sleeps when idle awake.',
      },
    })
    .get(
      '/ready',
      async function answerReadiness() {
        // One look for all who ask at a time: anybody may ask, as often as they like.
        look ??= query`select 1`.finally(() => (look = undefined))
        await look
        return { status: 'ready' as const }
      },
      {
        response: {
          200: t.Object({ status: t.Literal('ready') }),
          503: Failure('database_unavailable'),
        },
        detail: { tags, summary: 'Can the server reach its database?' },
      },
    )
}
