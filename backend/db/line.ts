import {
  createWaitingRequests,
  type WaitingRequest,
  type WaitingRequestsOptions,
} from './waiting-requests.ts'

export type LineOptions<Request, Answer> = WaitingRequestsOptions<Request> & {
  /**
   * Sends requests to the database in one statement and gives their answers, in the same order.
   *
   * @param deadline how long it may take, in milliseconds
   */
  send: (requests: readonly Request[], deadline: number) => Promise<readonly Answer[]>
  /** The most statements under way at a time. */
  width: number
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

/**
 * Requests that wait at the same moment go to the database together. One that need not wait is sent at
 * once; those that arrive while statements are running are collected and go in the next. No request waits
 * for company, and none joins a statement that is already running, so no answer is older than its request.
 */
export function createLine<Request, Answer>(
  options: LineOptions<Request, Answer>,
): Line<Request, Answer> {
  const { send, width, deadline } = options
  const waiting = createWaitingRequests<Request, Answer>(options)
  let statements = 0

  function sendOn(): void {
    while (statements < width && waiting.isAny()) {
      const set = waiting.takeTurns()
      if (set.length === 0) return
      void sendTogether(set)
    }
  }

  async function sendTogether(set: WaitingRequest<Request, Answer>[]): Promise<void> {
    statements += 1
    const oldest = Math.min(...set.map(({ arrivedAt }) => arrivedAt))
    const requests = set.map(({ request }) => request)
    try {
      const answers = await send(requests, oldest + deadline - performance.now())
      for (const [place, { owner, resolve }] of set.entries()) {
        waiting.noteAnswer(owner)
        resolve(answers[place]!)
      }
    } catch (error) {
      for (const { reject } of set) reject(error)
    } finally {
      statements -= 1
      waiting.endTurns(set)
      sendOn()
    }
  }

  return async function ask(owner, request, arrivedAt = performance.now()) {
    return new Promise((resolve, reject) => {
      waiting.add({ owner, request, arrivedAt, resolve, reject })
      sendOn()
      waiting.keepSweeping()
    })
  }
}
