import type { Database } from '../db/pool.ts'
import { ApiError } from '../http/failures.ts'
import { usualDays, type Key, type MadeKey, type NewKey } from './schemas.ts'
import { createSecret } from './secret.ts'

const mostKeys = 20 // of one user

export type KeyStore = ReturnType<typeof createKeyStore>

/** A user's personal keys. */
export function createKeyStore({ queryFor, fragment }: Pick<Database, 'queryFor' | 'fragment'>) {
  const instant = fragment`'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'`
  const columns = fragment`
    id, name, scope, start,
    to_char(created_at at time zone 'UTC', ${instant}) as created_at,
    to_char(expires_at at time zone 'UTC', ${instant}) as expires_at`

  return {
    async list(owner: string): Promise<Key[]> {
      return queryFor(owner)<Key>`
        select ${columns}, to_char(last_used_at at time zone 'UTC', ${instant}) as last_used_at
        from todo_api.personal_keys where user_id = ${owner} order by id`
    },

    /** @throws ApiError 409 `key_limit_reached` */
    async create(
      owner: string,
      { name, scope, expires_in_days: days = usualDays }: NewKey,
    ): Promise<MadeKey> {
      const { key, start, hash } = createSecret()
      // Each attempt that takes no slot, though there was one, lost it to another key of this user's.
      for (let attempt = 0; attempt < mostKeys; attempt += 1) {
        const [made] = await queryFor(owner)<Omit<MadeKey, 'key'> | { id: null }>`
          with free as (
            select slot from generate_series(1, ${mostKeys}::int) as slot
            where slot not in (select slot from todo_api.personal_keys where user_id = ${owner})
            order by random() limit 1
          ), made as (
            insert into todo_api.personal_keys (user_id, slot, hash, start, name, scope, expires_at)
            select ${owner}, slot, ${hash}, ${start}, ${name}, ${scope}, now() + make_interval(hours => 24 * ${days}::int)
            from free
            on conflict (user_id, slot) do nothing
            returning *
          )
          select ${columns} from free left join made using (slot)`
        if (made === undefined) break
        if (made.id !== null) return { ...made, key }
      }
      throw new ApiError('key_limit_reached')
    },

    /** @throws ApiError 404 `key_not_found` */
    async remove(owner: string, id: number): Promise<void> {
      const gone = await queryFor(owner)`
        delete from todo_api.personal_keys where user_id = ${owner} and id = ${id} returning id`
      if (gone.length === 0) throw new ApiError('key_not_found')
    },
  }
}
