import type { Connection } from './connection.ts'

/** A connection that is signed in. */
export type Lent = {
  readonly connection: Connection
  /** It is closed when it is given back. */
  isSpent: boolean
  /** When it was started, on `performance.now()`. */
  readonly since: number
  /** Closes it when it has been idle for long. */
  readonly idling: Timer
}

const betweenReplacements = 1_000 // ms
const longestIdle = 60_000 // ms
const longestLife = 30 * 60_000 // ms

/**
 * The connections that are open, and how long each is kept.
 *
 * @param onLost is told when there is one less
 */
export function createOpenConnections(onLost: () => void) {
  const open = new Set<Lent>()
  const idle: Lent[] = []
  let replacedAt = -Infinity

  function takeFromIdle(lent: Lent): boolean {
    const index = idle.indexOf(lent)
    if (index >= 0) idle.splice(index, 1)
    return index >= 0
  }

  function forget(lent: Lent): void {
    clearTimeout(lent.idling)
    takeFromIdle(lent)
    open.delete(lent)
    onLost()
  }

  function closeIdle(): void {
    for (const { connection } of idle.splice(0)) void connection.close()
  }

  return {
    count: () => open.size,
    /** A new one is not idle yet. */
    add(connection: Connection, since: number): Lent {
      function closeIfIdle(): void {
        if (takeFromIdle(lent)) void connection.close()
      }
      const idling = setTimeout(closeIfIdle, longestIdle)
      const lent: Lent = { connection, isSpent: false, since, idling }
      open.add(lent)
      connection.lost.catch(() => forget(lent))
      return lent
    },
    /** The one that was idle for the shortest time, if there is any. */
    takeIdle: () => idle.pop(),
    /**
     * Keeps one that nobody needs now, or closes it if it has been there for long enough.
     *
     * @returns whether it is kept
     */
    keepIdle(lent: Lent): boolean {
      const isOld = performance.now() - lent.since > longestLife
      if (lent.isSpent || isOld) void lent.connection.close()
      else idle.push(lent)
      return !lent.isSpent && !isOld
    },
    closeIdle,
    /**
     * Replaces all, those in use once their statements have ended, at most once a second.
     *
     * @returns whether it did
     */
    replace(): boolean {
      if (performance.now() - replacedAt < betweenReplacements) return false
      replacedAt = performance.now()
      for (const lent of open) lent.isSpent = true
      closeIdle()
      return true
    },
    /** Cuts off those that are left. */
    drop(): void {
      for (const { connection } of open) connection.drop()
    },
  }
}
