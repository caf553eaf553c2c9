/** The user has as many requests waiting as one user may have. */
export class QueueFull extends Error {
  override readonly name = 'QueueFull'
}

/** The deadline passed before there was a place. What was to be done has not begun, and never will. */
export class WaitedTooLong extends Error {
  override readonly name = 'WaitedTooLong'
}

/** As `WaitedTooLong`, but it was the user's own requests that were waited for. */
export class WaitedForOneself extends Error {
  override readonly name = 'WaitedForOneself'
}

/** Whether a user was served so recently that what they still wait for is behind requests of their own. */
export function isRecent(servedAt: number, deadline: number): boolean {
  return performance.now() - servedAt < deadline / 2
}

/** How much of a deadline must be left for something to begin: with less it would only be cut off. */
export function leastToBegin(deadline: number): number {
  return deadline / 20
}

/**
 * Ends waits that have lasted too long. All may last equally long, so they end in the order of arrival, and
 * one timer is enough.
 *
 * @param patience how long each may last, in milliseconds
 * @param end is called with each that has lasted too long
 */
export function createPatience<Waiter extends { arrived: number }>(
  patience: number,
  end: (waiter: Waiter) => void,
) {
  const arrivals = new Set<Waiter>()
  let timer: Timer | undefined

  function endWaits(): void {
    timer = undefined
    for (const waiter of arrivals) {
      const left = waiter.arrived + patience - performance.now()
      if (left > 0) {
        timer = setTimeout(endWaits, Math.ceil(left))
        return
      }
      arrivals.delete(waiter)
      end(waiter)
    }
  }

  return {
    keep(waiter: Waiter): void {
      arrivals.add(waiter)
      timer ??= setTimeout(endWaits, patience)
    },
    forget: (waiter: Waiter) => void arrivals.delete(waiter),
  }
}
