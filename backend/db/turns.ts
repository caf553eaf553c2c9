import { createQueue, type QueueOptions } from './queue.ts'

/** What a request holds until it gives it back. */
export type Hold = {
  /** What is left of the deadline, in milliseconds. */
  left: number
  /** Gives back everything above this size. */
  keep: (size: number) => void
  release: () => void
}

/**
 * Lets requests in as long as there are places; then they wait in a queue for each user, and users
 * take turns: after one request of theirs, the others come first. A user at their limit waits until
 * they give a place back.
 */
export function createTurns(options: QueueOptions) {
  const { places, deadline } = options
  const queue = createQueue(options)

  return {
    /**
     * Does something in one place, when it is the user's turn.
     *
     * @param work is given what is left of the deadline, in milliseconds
     * @throws QueueFull, WaitedTooLong, WaitedForOneself
     */
    async run<Result>(user: string, work: (left: number) => Promise<Result>): Promise<Result> {
      const share = queue.shareOf(user)
      const left = queue.enters(share, 1) ? deadline : await queue.wait(share, 1)
      try {
        return await work(left)
      } finally {
        queue.leave(share, 1)
      }
    },

    /**
     * Takes several places at once, when it is the user's turn. A request above a user's limit is
     * granted only if that user holds nothing else; one above the total takes everything.
     *
     * @throws QueueFull, WaitedTooLong, WaitedForOneself
     */
    async take(user: string, size: number): Promise<Hold> {
      const share = queue.shareOf(user)
      let held = Math.min(size, places)
      const left = queue.enters(share, held) ? deadline : await queue.wait(share, held)
      function keep(most: number): void {
        const surplus = held - most
        if (surplus <= 0) return
        held -= surplus
        queue.leave(share, surplus)
      }
      return { left, keep, release: () => keep(0) }
    },
  }
}
