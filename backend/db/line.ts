import { isRecent, leastToBegin, QueueFull, WaitedForOneself, WaitedTooLong } from './waiting.ts'

export type LineOptions<Request, Answer> = {
  /**
   * Sends requests to the database in one statement and gives their answers, in the same order.
   *
   * @param deadline how long it may take, in milliseconds
   */
  send: (requests: readonly Request[], deadline: number) => Promise<readonly Answer[]>
  /**
   * The row that a request changes, which only one request in a statement may name. If given, a user's
   * requests are in one statement at a time, because a second one would wait for the first.
   */
  rowOf?: (request: Request) => string | number | undefined
  /** The most statements under way at a time. */
  width: number
  /** The most requests in a statement. */
  most: number
  /** How long a request may take from its arrival, in milliseconds; then it is given up. */
  deadline: number
  /** The most requests of one user that wait. */
  longest: number
}

/**
 * @param arrivedAt when the request came, on `performance.now()`, if that was not now
 * @throws QueueFull, WaitedTooLong, WaitedForOneself, and what `send` throws
 */
export type Line<Request, Answer> = (
  owner: string,
  request: Request,
  arrivedAt?: number,
) => Promise<Answer>

type Waiting<Request, Answer> = {
  owner: string
  request: Request
  arrivedAt: number
  resolve: (answer: Answer) => void
  reject: (error: unknown) => void
}

const betweenSweeps = 100 // ms

/**
 * Requests that wait at the same moment go to the database together. One that need not wait is sent at
 * once; those that arrive while statements are running are collected and go in the next. No request waits
 * for company, and none joins a statement that is already running, so no answer is older than its request.
 *
 * Users take turns: nobody has two requests in a statement before everybody who waits has one.
 */
export function createLine<Request, Answer>({
  send,
  rowOf,
  width,
  most,
  deadline,
  longest,
}: LineOptions<Request, Answer>): Line<Request, Answer> {
  type Entry = Waiting<Request, Answer>
  /** What waits, by user, in the order of their turns. */
  const waiting = new Map<string, Entry[]>()
  const ownersUnderWay = new Set<string>()
  /** When users who have more waiting were last answered. */
  const answered = new Map<string, number>()
  let statements = 0
  let sweeping: Timer | undefined

  function takeTurns(): Entry[] {
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
    return set
  }

  function sendOn(): void {
    while (statements < width && waiting.size > 0) {
      const set = takeTurns()
      if (set.length === 0) return
      void sendTogether(set)
    }
  }

  async function sendTogether(set: Entry[]): Promise<void> {
    statements += 1
    if (rowOf !== undefined) for (const { owner } of set) ownersUnderWay.add(owner)
    const oldest = Math.min(...set.map(({ arrivedAt }) => arrivedAt))
    const requests = set.map(({ request }) => request)
    try {
      const answers = await send(requests, oldest + deadline - performance.now())
      for (const [place, { owner, resolve }] of set.entries()) {
        if (waiting.has(owner)) answered.set(owner, performance.now())
        resolve(answers[place]!)
      }
    } catch (error) {
      for (const { reject } of set) reject(error)
    } finally {
      statements -= 1
      if (rowOf !== undefined) for (const { owner } of set) ownersUnderWay.delete(owner)
      sendOn()
    }
  }

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

  return async function ask(owner, request, arrivedAt = performance.now()) {
    return new Promise((resolve, reject) => {
      const queue = waiting.get(owner) ?? []
      if (queue.length >= longest)
        return reject(new QueueFull(`${longest} requests of one user wait already`))
      queue.push({ owner, request, arrivedAt, resolve, reject })
      waiting.set(owner, queue)
      sendOn()
      if (waiting.size > 0) sweeping ??= setInterval(sweep, betweenSweeps)
    })
  }
}
