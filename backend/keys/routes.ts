import type { Asked } from '../auth/current-user.ts'
import type * as contracts from './contracts.ts'
import type { Key, MadeKey } from './schemas.ts'
import type { KeyStore } from './store.ts'

/** A request to the route with this contract, and what answers it. */
type Call<Contract> = Asked<Contract> & { keys: KeyStore }

export async function listKeys({ keys, userId }: Call<typeof contracts.listKeys>): Promise<Key[]> {
  return keys.list(userId)
}

export async function createKey({
  keys,
  userId,
  body,
  set,
}: Call<typeof contracts.createKey>): Promise<MadeKey> {
  const { id, name, scope, key, start, created_at, expires_at } = await keys.create(userId, body)
  set.status = 201
  set.headers['cache-control'] = 'no-store'
  return { id, name, scope, key, start, created_at, expires_at }
}

export async function revokeKey({
  keys,
  userId,
  params: { id },
  set,
}: Call<typeof contracts.revokeKey>): Promise<void> {
  await keys.remove(userId, id)
  set.status = 204
}
