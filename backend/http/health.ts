import { Elysia, t } from 'elysia'
import type { Query } from '../db/pool.ts'
import { ApiError, Failure } from '../errors.ts'

const tags = ['Health']

/**
 * For whoever runs the server: is it alive, and can it serve?
 *
 * @param draining from when this server is about to stop, and others should be asked
 */
export function health(query: Query, draining?: AbortSignal) {
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
        if (draining?.aborted) throw new ApiError('server_stopping')
        // One look for all who ask at a time: anybody may ask, as often as they like.
        look ??= query`select 1`.finally(() => (look = undefined))
        await look
        return { status: 'ready' as const }
      },
      {
        response: {
          200: t.Object({ status: t.Literal('ready') }),
          503: Failure('database_unavailable', 'server_stopping'),
        },
        detail: { tags, summary: 'Can the server take requests?' },
      },
    )
}
