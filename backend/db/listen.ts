import postgres from 'postgres'
import type { DatabaseAddress } from './address.ts'
import { settingsOf } from './connect.ts'

const proofWithin = 2_000 // ms

/**
 * Listens to a channel on a connection of its own. When that is lost it is made again, and the
 * callback is told with an empty text that something may have been missed.
 *
 * A pooler in transaction mode takes a `LISTEN` and delivers nothing. So a first notification is
 * sent here, and waited for.
 *
 * @returns how to stop listening
 * @throws where the connection fails or delivers nothing
 */
export async function listen(
  address: DatabaseAddress,
  channel: string,
  onPayload: (payload: string) => void,
): Promise<() => Promise<void>> {
  // The driver listens on a connection of its own beside this pool, which serves for the proof alone.
  const sql = postgres({ ...settingsOf(address), max: 1, idle_timeout: 1 })
  const stop = async () => sql.end({ timeout: 1 })
  const proof = ` ${crypto.randomUUID()}` // begins as no user's id is likely to
  const { promise: proven, resolve, reject } = Promise.withResolvers<void>()
  const timer = setTimeout(
    () => reject(new Error('Notifications do not arrive: is this the address of a pooler?')),
    proofWithin,
  )
  try {
    await Promise.race([
      proven,
      sql.listen(
        channel,
        (payload) => (payload === proof ? resolve() : onPayload(payload)),
        () => onPayload(''),
      ),
    ])
    await Promise.race([proven, sql.notify(channel, proof)])
    await proven
    return stop
  } catch (error) {
    await stop()
    throw error
  } finally {
    clearTimeout(timer)
  }
}
