import { createAttempts } from './attempts.ts'
import type { Connection } from './connection.ts'
import { LineLost, type Place } from './socket.ts'

/** Somebody who needs a connection for a statement. */
export type Asking = {
  /** Lends them a connection until they give it back. */
  use: (lent: Lent) => void
  /** Tells them that there is no connection and none can be made. */
  refuse: (error: unknown) => void
}

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

export type Connections = ReturnType<typeof createConnections>

const betweenReplacements = 1_000 // ms
const longestIdle = 60_000 // ms
const longestLife = 30 * 60_000 // ms

/**
 * Lends connections, each for one statement at a time, and makes them when they are needed.
 *
 * If a new one is refused, everybody waits for the existing ones. If there are none, they are told at once.
 *
 * @param most how many there are at a time, at most
 * @param within how long signing in may take, in milliseconds
 */
export function createConnections(
  place: Place,
  { most, within }: { most: number; within: number },
) {
  const open = new Set<Lent>()
  const idle: Lent[] = []
  const waiting = new Set<Asking>()
  const attempts = createAttempts(place, within, { opened: take, refused: serve })
  let replacedAt = -Infinity
  let isClosing = false
  const { promise: closed, resolve: finishClosing } = Promise.withResolvers<void>()

  /** Gives those who wait what there is: a connection, an attempt to make one, or a refusal. */
  function serve(): void {
    for (const asking of waiting) {
      const lent = idle.pop()
      if (lent === undefined) break
      waiting.delete(asking)
      asking.use(lent)
    }
    while (mayOpen()) attempts.begin()
    if (open.size > 0 || attempts.underWay() > 0) return
    for (const { refuse } of waiting) refuse(attempts.lastError())
    waiting.clear()
    if (isClosing) finishClosing()
  }

  function mayOpen(): boolean {
    const opening = attempts.underWay()
    if (opening >= waiting.size || open.size + opening >= most) return false
    return attempts.isTimeFor(open.size)
  }

  function take(connection: Connection, since: number): void {
    function closeIfIdle(): void {
      if (takeFromIdle(lent)) void connection.close()
    }
    const idling = setTimeout(closeIfIdle, longestIdle)
    const lent: Lent = { connection, isSpent: false, since, idling }
    open.add(lent)
    connection.lost.catch(() => forget(lent))
    giveBack(lent)
  }

  function takeFromIdle(lent: Lent): boolean {
    const index = idle.indexOf(lent)
    if (index >= 0) idle.splice(index, 1)
    return index >= 0
  }

  function forget(lent: Lent): void {
    clearTimeout(lent.idling)
    takeFromIdle(lent)
    open.delete(lent)
    serve()
  }

  function giveBack(lent: Lent): void {
    const isOld = performance.now() - lent.since > longestLife
    if (lent.isSpent || isOld || (isClosing && waiting.size === 0)) {
      void lent.connection.close()
      return
    }
    if (waiting.size === 0) lent.idling.refresh()
    idle.push(lent)
    serve()
  }

  function closeIdle(): void {
    for (const { connection } of idle.splice(0)) void connection.close()
  }

  return {
    ask(asking: Asking): void {
      if (isClosing) return asking.refuse(new LineLost('The database has been closed'))
      waiting.add(asking)
      serve()
    },
    /** They no longer wait. */
    withdraw: (asking: Asking) => void waiting.delete(asking),
    giveBack,
    /**
     * Replaces all connections, those in use once their statements have ended, at most once a second.
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
    /** Waits for the running statements, for so many milliseconds at most. */
    async close(patience: number): Promise<void> {
      isClosing = true
      closeIdle()
      serve()
      const timer = setTimeout(finishClosing, patience)
      await closed
      clearTimeout(timer)
      for (const { connection } of open) connection.drop()
    },
  }
}
