import { createAttempts } from './attempts.ts'
import type { Connection } from './connection.ts'
import { createOpenConnections, type Lent } from './open-connections.ts'
import { LineLost, type Endpoint } from './socket.ts'

/** Somebody who needs a connection for a statement. */
export type Asking = {
  /** Lends them a connection until they give it back. */
  use: (lent: Lent) => void
  /** Tells them that there is no connection and none can be made. */
  refuse: (error: unknown) => void
}

export type Connections = ReturnType<typeof createConnections>

/**
 * Lends connections, each for one statement at a time, and makes them when they are needed.
 *
 * If a new one is refused, everybody waits for the existing ones. If there are none, they are told at once.
 *
 * @param most how many there are at a time, at most
 * @param within how long signing in may take, in milliseconds
 */
export function createConnections(
  endpoint: Endpoint,
  { most, within }: { most: number; within: number },
) {
  const open = createOpenConnections(serve)
  const waiting = new Set<Asking>()
  const attempts = createAttempts(endpoint, within, { opened: take, refused: serve })
  let isClosing = false
  const { promise: closed, resolve: finishClosing } = Promise.withResolvers<void>()

  /** Gives those who wait what there is: a connection, an attempt to make one, or a refusal. */
  function serve(): void {
    for (const asking of waiting) {
      const lent = open.takeIdle()
      if (lent === undefined) break
      waiting.delete(asking)
      asking.use(lent)
    }
    while (mayOpen()) attempts.begin()
    if (open.count() > 0 || attempts.underWay() > 0) return
    for (const { refuse } of waiting) refuse(attempts.lastError())
    waiting.clear()
    if (isClosing) finishClosing()
  }

  function mayOpen(): boolean {
    const opening = attempts.underWay()
    if (opening >= waiting.size || open.count() + opening >= most) return false
    return attempts.isTimeFor(open.count())
  }

  function take(connection: Connection, since: number): void {
    giveBack(open.add(connection, since))
  }

  function giveBack(lent: Lent): void {
    if (isClosing && waiting.size === 0) return void lent.connection.close()
    if (!open.keepIdle(lent)) return
    if (waiting.size === 0) lent.idling.refresh()
    serve()
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
    replace: () => open.replace(),
    /** Waits for the running statements, at most for this many milliseconds. */
    async close(patience: number): Promise<void> {
      isClosing = true
      open.closeIdle()
      serve()
      const timer = setTimeout(finishClosing, patience)
      await closed
      clearTimeout(timer)
      open.drop()
    },
  }
}
