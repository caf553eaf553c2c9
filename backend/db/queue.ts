import {
  createPatience,
  isRecent,
  leastToBegin,
  QueueFull,
  WaitedForOneself,
  WaitedTooLong,
} from './waiting.ts'

/** A limited resource, such as connections or memory, shared among users. */
export type QueueOptions = {
  /** How much there is. */
  places: number
  /** How much of it one user may hold, unless it is for a single request. */
  perUser: number
  /** How many requests of one user may wait. */
  longestQueue: number
  /** How long a request may take, its waiting included, in milliseconds. */
  deadline: number
}

/** What one user holds, and waits for in the order of arrival, and when they last had a turn. */
type Share = { user: string; held: number; waiting: Set<Waiter>; hadTurnAt: number }
type Waiter = {
  share: Share
  size: number
  arrived: number
  begin: (left: number) => void
  giveUp: (reason: Error) => void
}

/** Who holds how many places, who waits for some, and who is next. */
export function createQueue({ places, perUser, longestQueue, deadline }: QueueOptions) {
  let free = places
  const shares = new Map<string, Share>()
  /** Those who wait for nothing but a free place, the next one first. */
  const line = new Set<Share>()
  const patience = createPatience<Waiter>(deadline - leastToBegin(deadline), giveUp)

  function shareOf(user: string): Share {
    let share = shares.get(user)
    if (share === undefined) {
      share = { user, held: 0, waiting: new Set(), hadTurnAt: -Infinity }
      shares.set(user, share)
    }
    return share
  }

  function isWithin(share: Share, size: number): boolean {
    return share.held === 0 || share.held + size <= perUser
  }

  /** Something has been given back, or somebody no longer waits. */
  function goOn(share: Share): void {
    takePlaceInLine(share)
    if (share.held === 0 && share.waiting.size === 0) shares.delete(share.user)
    for (const next of line) {
      const waiter = firstOf(next.waiting)
      if (waiter.size > free) {
        if (free === 0) return
        continue // a small one may overtake a large one
      }
      line.delete(next)
      next.waiting.delete(waiter)
      patience.forget(waiter)
      next.held += waiter.size
      free -= waiter.size
      next.hadTurnAt = performance.now()
      takePlaceInLine(next)
      waiter.begin(waiter.arrived + deadline - next.hadTurnAt)
    }
  }

  /** At the end of the line, unless they are in it already. */
  function takePlaceInLine(share: Share): void {
    const isNext = share.waiting.size > 0 && isWithin(share, firstOf(share.waiting).size)
    if (isNext) line.add(share)
    else line.delete(share)
  }

  /** A user who holds all they may, or had a turn just now, is not kept waiting by others. */
  function giveUp(waiter: Waiter): void {
    const { share, size } = waiter
    share.waiting.delete(waiter)
    const isOwn = !isWithin(share, size) || isRecent(share.hadTurnAt, deadline)
    const reason = isOwn ? WaitedForOneself : WaitedTooLong
    waiter.giveUp(new reason(`No place within ${deadline} ms`))
    goOn(share)
  }

  return {
    shareOf,
    /** Takes places if nobody need wait for them. Those in line all wait for more than is free. */
    enters(share: Share, size: number): boolean {
      if (size > free || share.waiting.size > 0 || !isWithin(share, size)) return false
      share.held += size
      free -= size
      return true
    },
    /**
     * Waits for places.
     *
     * @returns what is left of the deadline, in milliseconds
     * @throws QueueFull, WaitedTooLong, WaitedForOneself
     */
    async wait(share: Share, size: number): Promise<number> {
      if (share.waiting.size >= longestQueue)
        throw new QueueFull(`${longestQueue} requests of one user wait already`)
      return new Promise((begin, giveUpWith) => {
        const waiter = { share, size, arrived: performance.now(), begin, giveUp: giveUpWith }
        share.waiting.add(waiter)
        takePlaceInLine(share)
        patience.keep(waiter)
      })
    },
    leave(share: Share, size: number): void {
      share.held -= size
      free += size
      goOn(share)
    },
  }
}

function firstOf<Item>(items: Set<Item>): Item {
  const [first] = items
  return first!
}
