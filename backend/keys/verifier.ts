import type { Scope } from '../auth/scopes.ts'
import { endOfTime, TokenError, type Bearer, type VerifyToken } from '../auth/tokens.ts'
import { createLine } from '../db/line.ts'
import type { Database } from '../db/pool.ts'
import type { KeyScope } from './schemas.ts'
import { digestOf, isKey } from './secret.ts'

const atOnce = 64 // keys
const longestQueue = 500 // requests with one key
const patience = 1_000 // ms, with writing down that keys were used

const allowed: Record<KeyScope, readonly Scope[]> = {
  read: ['tasks:read'],
  write: ['tasks:read', 'tasks:write'],
}

const unknownKey = 'There is no such key, or it was revoked; make a new one'
const expiredKey = 'The key has expired; make a new one'

type Found = {
  hash: string
  user_id: string
  scope: KeyScope
  /** In seconds since 1970. Null: never. */
  expires: number | null
  is_expired: boolean
  /** Nobody has written down that it is used in this minute. */
  is_due: boolean
}

/**
 * Lets personal keys in besides the tokens that `verifyToken` verifies. A key is looked up on every
 * request, so that one that is revoked is refused at once by every process; keys of requests that wait
 * at the same moment are looked up together. When it was used is written down once a minute.
 */
export function withKeys(
  verifyToken: VerifyToken,
  { queryWithin, fragment, deadline }: Pick<Database, 'queryWithin' | 'fragment' | 'deadline'>,
): VerifyToken {
  // Each key has its own turn: whose it is, is not known yet.
  const lookUp = createLine<string, Found | undefined>({
    send: findAndMark,
    width: 1,
    most: atOnce,
    deadline,
    longest: longestQueue,
  })

  const findStatement = fragment`
    select
      hash, user_id, scope, extract(epoch from expires_at)::float8 as expires,
      coalesce(expires_at <= now(), false) as is_expired,
      coalesce(last_used_at < date_trunc('minute', now()), true) as is_due
    from todo_api.personal_keys
    where hash = any (array(select json_array_elements_text(${''}::text::json)))`

  // It waits for nobody: if another process is at it, that one writes the same.
  const markStatement = fragment`
    with due as (
      select user_id, id from todo_api.personal_keys
      where hash = any (array(select json_array_elements_text(${''}::text::json)))
        and coalesce(last_used_at < date_trunc('minute', now()), true)
      order by user_id, id for update skip locked
    )
    update todo_api.personal_keys set last_used_at = date_trunc('minute', now())
    from due where personal_keys.user_id = due.user_id and personal_keys.id = due.id`

  async function findAndMark(
    hashes: readonly string[],
    left: number,
  ): Promise<(Found | undefined)[]> {
    const statement = findStatement.with([JSON.stringify(hashes)])
    const rows = await queryWithin(left, hashes.length)<Found>`${statement}`
    await mark(rows.filter(({ is_due, is_expired }) => is_due && !is_expired))
    const found = new Map(rows.map((row) => [row.hash, row]))
    return hashes.map((hash) => found.get(hash))
  }

  async function mark(used: readonly Found[]): Promise<void> {
    if (used.length === 0) return
    const statement = markStatement.with([JSON.stringify(used.map(({ hash }) => hash))])
    // A key is good even if that cannot be written down, as on a standby; the next request tries again.
    await queryWithin(patience, 1)`${statement}`.catch(() => [])
  }

  async function verifyKey(key: string): Promise<Bearer> {
    const hash = digestOf(key)
    const found = await lookUp(hash, hash)
    if (found === undefined) throw new TokenError('invalid', 'no such key', unknownKey)
    if (found.is_expired) throw new TokenError('expired', 'expired', expiredKey)
    return {
      userId: found.user_id,
      expires: found.expires ?? endOfTime,
      scopes: allowed[found.scope],
      recheck: async () => verifyKey(key),
    }
  }

  return async function verifyKeyOrToken(token, resource) {
    return isKey(token) ? verifyKey(token) : verifyToken(token, resource)
  }
}
