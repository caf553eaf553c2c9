import { LRUCache } from 'lru-cache'
import type { Scope } from '../auth/scopes.ts'
import { endOfTime, TokenError, type Bearer, type VerifyToken } from '../auth/tokens.ts'
import { createLine } from '../db/line.ts'
import type { Database } from '../db/pool.ts'
import type { KeyScope } from './schemas.ts'
import { digestOf, isKey } from './secret.ts'
import { createUses } from './uses.ts'

const together = { width: 1, most: 64, longest: 500 }
const rememberedKeys = 10_000

const allowed: Record<KeyScope, readonly Scope[]> = {
  read: ['tasks:read'],
  write: ['tasks:read', 'tasks:write'],
}

const unknownKey = 'There is no such key, or it was revoked; make a new one'
const expiredKey = 'The key has expired; make a new one'

type Found = {
  id: number
  hash: string
  user_id: string
  scope: KeyScope
  /** In seconds since 1970. Null: never. */
  expires: string | null
  is_expired: boolean
  /** Whether its use in this minute has not been recorded yet. */
  is_due: boolean
}

export type KeyVerifier = ReturnType<typeof createKeyVerifier>

/**
 * Verifies personal keys. A key is looked up on every request, so that one that is revoked is refused at
 * once by every process; keys of requests that wait at the same moment are looked up together. Those that
 * were good before wait in a line of their own, which no flood of made-up keys can lengthen. The use of
 * a key is recorded once a minute.
 */
export function createKeyVerifier(
  database: Pick<Database, 'queryFor' | 'queryWithin' | 'fragment' | 'deadline'>,
) {
  const { queryFor, queryWithin, fragment, deadline } = database
  const noteUses = createUses(database)
  const findKnown = createLine({ send: findTogether, deadline, ...together })
  const findUnknown = createLine({ send: findTogether, deadline, ...together })
  /** The owners of keys that have been good, by the hashes of the keys. */
  const ownerOf = new LRUCache<string, string>({ max: rememberedKeys })

  const columns = fragment`
    id, hash, user_id, scope, extract(epoch from expires_at)::numeric::text as expires,
    coalesce(expires_at <= now(), false) as is_expired,
    coalesce(last_used_at < date_trunc('minute', now()), true) as is_due`

  const findStatement = fragment`
    select ${columns} from todo_api.personal_keys
    where hash = any (array(select json_array_elements_text(${''}::text::json)))`

  async function findTogether(
    hashes: readonly string[],
    left: number,
  ): Promise<(Found | undefined)[]> {
    const statement = findStatement.with([JSON.stringify(hashes)])
    const rows = await queryWithin(left, hashes.length)<Found>`${statement}`
    noteUses(rows.filter(({ is_due, is_expired }) => is_due && !is_expired))
    const found = new Map(rows.map((row) => [row.hash, row]))
    return hashes.map((hash) => found.get(hash))
  }

  async function verifyHash(hash: string): Promise<Bearer> {
    const owner = ownerOf.get(hash)
    // Until the owner of a key is known, each key has a turn of its own.
    const found = owner ? await findKnown(owner, hash) : await findUnknown(hash, hash)
    if (found) ownerOf.set(hash, found.user_id)
    else ownerOf.delete(hash)
    return bearerOf(found)
  }

  function bearerOf(found: Found | undefined): Bearer {
    if (found === undefined) throw new TokenError('invalid', 'no such key', unknownKey)
    if (found.is_expired) throw new TokenError('expired', 'expired', expiredKey)
    return {
      userId: found.user_id,
      expires: found.expires === null ? endOfTime : Number(found.expires),
      scopes: allowed[found.scope],
      recheck: async () => verifyHash(found.hash),
      keyId: found.id,
    }
  }

  return {
    /** @throws TokenError */
    verifyKey: async (key: string): Promise<Bearer> => verifyHash(digestOf(key)),

    /**
     * Gives the bearer of a user's key, for a ticket that only this key could have got.
     *
     * @throws TokenError
     */
    async verifyKeyOf(owner: string, id: number): Promise<Bearer> {
      const [found] = await queryFor(owner)<Found>`
        select ${columns} from todo_api.personal_keys where user_id = ${owner} and id = ${id}`
      return bearerOf(found)
    },
  }
}

/** Lets personal keys in besides the tokens that `verifyToken` verifies. */
export function withKeys(verifyToken: VerifyToken, { verifyKey }: KeyVerifier): VerifyToken {
  return async function verifyKeyOrToken(token, resource) {
    return isKey(token) ? verifyKey(token) : verifyToken(token, resource)
  }
}
