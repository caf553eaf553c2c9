import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'

/**
 * A place in the order of a user's changes. A restored backup sets the counter back, so that a number
 * may come twice; the epoch, which `bun run restored` changes, tells which of them is meant. It is
 * empty until then.
 */
export type Place = { epoch: string; counter: number }

/** The two columns of the place that a user's list has come to. */
export function currentPlace({ fragment }: Pick<Database, 'fragment'>, owner: string): Fragment {
  return fragment`
    (select value from todo_api.epoch) as epoch,
    coalesce((select counter from todo_api.task_lists where user_id = ${owner}), 0) as counter`
}

/** `7`, or after a restore `5f0c1b2a.7`: the form in which clients get it. */
export function writePlace({ epoch, counter }: Place): string {
  return epoch === '' ? String(counter) : `${epoch}.${counter}`
}

export function readPlace(text: string): Place | undefined {
  const [, epoch = '', counter] = /^(?:([0-9a-f]{8})\.)?(\d{1,15})$/.exec(text) ?? []
  return counter === undefined ? undefined : { epoch, counter: Number(counter) }
}
