import { openConnection, type Connection } from './connection.ts'
import type { Endpoint } from './socket.ts'

const betweenAttempts = 1_000 // ms, if one was refused

/**
 * Makes connections. While the database refuses them, one attempt a second is made, and only if somebody
 * wants one.
 *
 * @param within how long signing in may take, in milliseconds
 */
export function createAttempts(
  endpoint: Endpoint,
  within: number,
  told: { opened: (connection: Connection, since: number) => void; refused: () => void },
) {
  let underWay = 0
  let refusal: { error: unknown; at: number } | undefined

  return {
    /** How many have not ended. */
    underWay: () => underWay,
    /** Why the last one failed, if none has succeeded since. */
    lastError: () => refusal?.error,
    /** Whether it is time for one more. A single one shows whether there is a database that takes us. */
    isTimeFor(open: number): boolean {
      if (underWay > 0) return open > 0 && refusal === undefined
      return refusal === undefined || performance.now() - refusal.at >= betweenAttempts
    },
    begin(): void {
      underWay += 1
      const since = performance.now()
      const connection = openConnection(endpoint, { within })
      function open(): void {
        underWay -= 1
        refusal = undefined
        told.opened(connection, since)
      }
      function note(error: unknown): void {
        underWay -= 1
        refusal = { error, at: since }
        told.refused()
      }
      connection.opened.then(open, note)
    },
  }
}
