import { isRecent, leastToBegin, QueueFull, WaitedForOneself, WaitedTooLong } from './waiting.ts'

export type WaitingRequestsOptions<Request> = {
  /**
   * The row that a request changes, which only one request in a statement may name. If given, a user's
   * requests are in one statement at a time, because a second one would wait for the first.
   */
  rowOf?: (request: Request) => string | number | undefined
  /** The most requests in a statement. */
  most: number
  /** How long a request may take from its arrival, in milliseconds; then it is given up. */
  deadline: number
  /** The most requests of one user that wait. */
  longest: number
}

export type WaitingRequest<Request, Answer> = {
  owner: string
  request: Request
  /** On `performance.now()`. */
  arrivedAt: number
  resolve: (answer: Answer) => void
  reject: (error: unknown) => void
}

const betweenSweeps = 100 // ms

/**
 * The requests that wait for a statement. Users take turns: nobody has two requests in a statement before
 * everybody who waits has one.
 */
export function createWaitingRequests<Request, Answer>({
  rowOf,
  most,
  deadline,
  longest,
}: WaitingRequestsOptions<Request>) {
  type Entry = WaitingRequest<Request, Answer>
  /** What waits, by user, in the order of their turns. */
  const waiting = new Map<string, Entry[]>()
  const ownersUnderWay = new Set<string>()
  /** When users who have more waiting were last answered. */
  const answered = new Map<string, number>()
  let sweeping: Timer | undefined

  /** Gives up requests that have waited so long that they would only be cut off. */
  function giveUpLate(): void {
    const tooEarly = performance.now() - deadline + leastToBegin(deadline)
    for (const [owner, queue] of waiting) {
      while (queue.length > 0 && queue[0]!.arrivedAt <= tooEarly)
        queue.shift()!.reject(whyNot(owner))
      if (queue.length > 0) continue
      waiting.delete(owner)
      answered.delete(owner)
    }
  }

  function whyNot(owner: string): Error {
    const isOwn = isRecent(answered.get(owner) ?? -Infinity, deadline)
    return new (isOwn ? WaitedForOneself : WaitedTooLong)(`No turn within ${deadline} ms`)
  }

  function sweep(): void {
    giveUpLate()
    if (waiting.size > 0) return
    clearInterval(sweeping)
    sweeping = undefined
  }

  return {
    isAny: () => waiting.size > 0,

    /** @throws QueueFull */
    add(entry: Entry): void {
      const queue = waiting.get(entry.owner) ?? []
      if (queue.length >= longest)
        throw new QueueFull(`${longest} requests of one user wait already`)
      queue.push(entry)
      waiting.set(entry.owner, queue)
    },

    /** Makes sure that those who must still wait are given up in time. */
    keepSweeping(): void {
      if (waiting.size > 0) sweeping ??= setInterval(sweep, betweenSweeps)
    },

    /** Takes what goes into the next statement: nothing if all who wait have a statement under way. */
    takeTurns(): Entry[] {
      giveUpLate()
      const set: Entry[] = []
      const rows = new Set<string | number>()
      // A user who has had a turn and has more to send moves to the end of the map, and so comes up again.
      for (const [owner, queue] of waiting) {
        if (set.length === most) break
        if (ownersUnderWay.has(owner)) continue
        const row = rowOf?.(queue[0]!.request)
        if (row !== undefined && rows.has(row)) continue
        if (row !== undefined) rows.add(row)
        set.push(queue.shift()!)
        waiting.delete(owner)
        if (queue.length > 0) waiting.set(owner, queue)
        else answered.delete(owner)
      }
      if (rowOf !== undefined) for (const { owner } of set) ownersUnderWay.add(owner)
      return set
    },

    /** One of a user's requests has been answered: what they still wait for is behind their own. */
    noteAnswer(owner: string): void {
      if (waiting.has(owner)) answered.set(owner, performance.now())
    },

    /** The statement of these has ended. */
    endTurns(set: readonly Entry[]): void {
      if (rowOf !== undefined) for (const { owner } of set) ownersUnderWay.delete(owner)
    },
  }
}
