import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'
import { refuseParameter, type ListRequest } from './request.ts'

/** The value that a list is sorted by, and how it is written into a cursor and read back. */
export type Key = {
  expression: Fragment
  /** SQL that writes the expression, named `key`, as text: the same under every DateStyle and TimeZone. */
  text: Fragment
  type: Fragment
  /** What the text looks like. */
  shape: RegExp
}

/** Tasks that are never due come last, in both directions. */
export function keyOf(
  { fragment }: Pick<Database, 'fragment'>,
  { by, descending }: ListRequest['sort'],
): Key {
  const instant = {
    text: fragment`to_char(key at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
    type: fragment`timestamptz`,
    shape: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/,
  }
  const never = descending ? fragment`'-infinity'` : fragment`'infinity'`
  switch (by) {
    case 'created':
      // Ids are handed out in that order, and the primary key has it.
      return {
        expression: fragment`id`,
        text: fragment`key::text`,
        type: fragment`bigint`,
        shape: /^[1-9]\d{0,15}$/,
      }
    case 'updated':
      return { expression: fragment`tasks.updated_at`, ...instant }
    case 'title':
      return {
        expression: fragment`lower(title)`,
        text: fragment`key`,
        type: fragment`text`,
        shape: /^[^\0]*$/,
      }
    case 'priority':
      return {
        // Not by the type, which no statement names: see db/own-schema.ts.
        expression: fragment`array_position(array['none', 'low', 'medium', 'high'], priority::text)`,
        text: fragment`key::text`,
        type: fragment`integer`,
        shape: /^[1-4]$/,
      }
    case 'due_date':
      return {
        expression: fragment`coalesce(due_date + coalesce(due_time, time '24:00'), ${never}::timestamp)`,
        text: fragment`case when isfinite(key) then to_char(key, 'YYYY-MM-DD"T"HH24:MI:SS') else ${never} end`,
        type: fragment`timestamp`,
        // The end of 31 December 9999 is in the year after.
        shape: /^(-?infinity|\d{4,5}-\d\d-\d\dT\d\d:\d\d:\d\d)$/,
      }
  }
}

export type Position = { key: string; id: number }

/**
 * A place in a sorted list, bound to its owner, filter and sort. The page's size may change. The
 * longest key, a title of 800 bytes, makes it 1,101 characters long.
 */
export function writeCursor(
  { key, id }: Position,
  owner: string,
  { filter, sort }: ListRequest,
): string {
  const text = `${id}.${Buffer.from(key).toString('base64url')}`
  return `${text}.${digest(JSON.stringify([owner, filter, sort, text]))}`
}

/** The digest is no secret: whoever works it out may write what they like into a cursor of theirs. */
export function readCursor(
  cursor: string,
  owner: string,
  { filter, sort }: ListRequest,
  { shape }: Pick<Key, 'shape'>,
): Position {
  const [, text, id, encoded, check] =
    /^(([1-9]\d{0,15})\.([\w-]*))\.([\w-]{16})$/.exec(cursor) ?? []
  if (check === undefined || check !== digest(JSON.stringify([owner, filter, sort, text])))
    refuseCursor()
  const position = { key: decode(encoded!), id: Number(id) }
  if (!Number.isSafeInteger(position.id) || !shape.test(position.key)) refuseCursor()
  return position
}

function decode(encoded: string): string {
  try {
    const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    return strict.decode(Buffer.from(encoded, 'base64url'))
  } catch {
    return refuseCursor()
  }
}

export function refuseCursor(): never {
  refuseParameter('cursor', 'must be one from the Link header of this very query')
}

export function digest(text: string): string {
  return new Bun.CryptoHasher('sha256').update(text).digest('base64url').slice(0, 16)
}
