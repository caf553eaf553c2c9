import { t } from 'elysia'
import { version } from '../../package.json'
import type { Query } from '../db/sql.ts'
import { ApiError, Failure } from './failures.ts'

const tags = ['Health']

export const aliveContract = {
  response: {
    200: t.Object({
      status: t.Literal('ok'),
      version: t.String({ description: 'Of the program', examples: [version] }),
    }),
  },
  detail: {
    tags,
    operationId: 'answerAlive',
    summary: 'Is the process alive?',
    description:
      'Touches nothing, the database least of all: a probe would keep a database that sleeps when idle awake.',
    'x-uncounted': true,
  },
}

export async function answerAlive(): Promise<{ status: 'ok'; version: string }> {
  return { status: 'ok', version }
}

export const readyContract = {
  response: {
    200: t.Object({ status: t.Literal('ready') }),
    503: Failure('database_unavailable', 'server_stopping'),
  },
  detail: {
    tags,
    operationId: 'answerReady',
    summary: 'Can the server take requests?',
    description: 'Asks the database, and whether it can be written to.',
    'x-uncounted': true,
  },
}

/** @param draining from when this server is about to stop, and others should be asked */
export function createReadiness(query: Query, draining?: AbortSignal) {
  let look: Promise<unknown> | undefined
  return async function answerReady(): Promise<{ status: 'ready' }> {
    if (draining?.aborted) throw new ApiError('server_stopping')
    // Probes that come at the same time share a statement: anybody may send them, as often as they like.
    look ??= askWhetherItWrites(query).finally(() => (look = undefined))
    await look
    return { status: 'ready' }
  }
}

/**
 * Fails as a write would on a server that only reads, as a failover leaves one behind (25006): that has
 * the connections replaced, even though nobody writes while this server is unready.
 */
async function askWhetherItWrites(query: Query): Promise<void> {
  await query`
    do $$ begin
      if current_setting('transaction_read_only')::boolean then
        raise read_only_sql_transaction;
      end if;
    end $$`
}
