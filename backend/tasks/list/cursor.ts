import type { Database, Fragment } from '../../db/pool.ts'
import { refuse, type ListRequest } from './request.ts'

/** What is sorted by, and its type. Tasks that are never due come last, in both directions. */
export function keyOf(
  { fragment }: Pick<Database, 'fragment'>,
  { by, descending }: ListRequest['sort'],
): {
  expression: Fragment
  type: Fragment
} {
  const never = descending ? fragment`'-infinity'` : fragment`'infinity'`
  switch (by) {
    case 'created':
      return { expression: fragment`tasks.created_at`, type: fragment`timestamptz` }
    case 'updated':
      return { expression: fragment`tasks.updated_at`, type: fragment`timestamptz` }
    case 'title':
      return { expression: fragment`lower(title)`, type: fragment`text` }
    case 'priority':
      return { expression: fragment`priority`, type: fragment`task_priority` }
    case 'due_date':
      return {
        expression: fragment`coalesce(due_date + coalesce(due_time, time '24:00'), ${never}::timestamp)`,
        type: fragment`timestamp`,
      }
  }
}

export type Position = { key: string; id: number }

/** A place in a sorted list, bound to its owner, filter and sort. The page's size may change. */
export function writeCursor(
  position: Position,
  owner: string,
  { filter, sort }: ListRequest,
): string {
  const text = Buffer.from(JSON.stringify(position)).toString('base64url')
  return `${text}.${digest(JSON.stringify([owner, filter, sort, text]))}`
}

export function readCursor(cursor: string, owner: string, { filter, sort }: ListRequest): Position {
  const [text = '', check] = cursor.split('.')
  if (check !== digest(JSON.stringify([owner, filter, sort, text])))
    refuse('cursor', 'must be one from the Link header of this very query')
  const position: Position = JSON.parse(Buffer.from(text, 'base64url').toString())
  return position
}

export function digest(text: string): string {
  return new Bun.CryptoHasher('sha256').update(text).digest('base64url').slice(0, 16)
}
