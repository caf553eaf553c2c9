/** Something of which there is only so much, such as connections or memory, shared among users. */
export type TurnsOptions = {
  /** How much there is. */
  places: number
  /** How much of it one user may hold, unless it is for a single request. */
  perUser: number
  /** How many requests of one user may wait. */
  longestQueue: number
  /** How long a request may take, its waiting included, in milliseconds. */
  deadline: number
}

/** The user has as many requests waiting as one user may have. */
export class QueueFull extends Error {
  override readonly name = 'QueueFull'
}

/** The deadline passed before there was a place. What was to be done has not begun, and never will. */
export class WaitedTooLong extends Error {
  override readonly name = 'WaitedTooLong'
}

/** As `WaitedTooLong`, and what was waited for are the user's own requests. */
export class WaitedForOneself extends Error {
  override readonly name = 'WaitedForOneself'
}

/** Whether a user was served so lately that what they still wait for is behind requests of their own. */
export function isRecent(servedAt: number, deadline: number): boolean {
  return performance.now() - servedAt < deadline / 2
}

/** How much of a deadline must be left for something to begin: with less it would only be cut off. */
export function leastToBegin(deadline: number): number {
  return deadline / 20
}

/** What a request holds until it gives it back. */
export type Hold = {
  /** What is left of the deadline, in milliseconds. */
  left: number
  /** Gives back all but so much. */
  keep: (size: number) => void
  release: () => void
}

export type Turns = ReturnType<typeof createTurns>

/** What one user holds, and waits for in the order of arrival, and when they last had a turn. */
type Share = { user: string; held: number; waiting: Set<Waiter>; hadTurnAt: number }
type Waiter = {
  share: Share
  size: number
  arrived: number
  begin: (left: number) => void
  giveUp: (reason: Error) => void
}

/**
 * Lets requests in as long as there are places; then they wait in a queue for each user, and users
 * take turns: after one request of theirs, the others come first. Whoever holds as much as one user
 * may takes no turn until something is given back.
 */
export function createTurns({ places, perUser, longestQueue, deadline }: TurnsOptions) {
  let free = places
  const shares = new Map<string, Share>()
  /** Those who wait for nothing but a free place, the next one first. */
  const line = new Set<Share>()
  /** All who wait, in the order of arrival, which is that of their deadlines: one timer does for all. */
  const arrivals = new Set<Waiter>()
  let timer: Timer | undefined
  const patience = deadline - leastToBegin(deadline)

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

  /** Whether it need not wait. In line there is nobody but those for whom too little is free. */
  function enters(share: Share, size: number): boolean {
    if (size > free || share.waiting.size > 0 || !isWithin(share, size)) return false
    share.held += size
    free -= size
    return true
  }

  function leave(share: Share, size: number): void {
    share.held -= size
    free += size
    goOn(share)
  }

  /** Something has been given back, or somebody waits no longer. */
  function goOn(share: Share): void {
    takePlaceInLine(share)
    if (share.held === 0 && share.waiting.size === 0) shares.delete(share.user)
    for (const next of line) {
      const waiter = firstOf(next.waiting)
      if (waiter.size > free) {
        if (free === 0) return
        continue // what is small goes past what is large
      }
      line.delete(next)
      next.waiting.delete(waiter)
      arrivals.delete(waiter)
      next.held += waiter.size
      free -= waiter.size
      next.hadTurnAt = performance.now()
      takePlaceInLine(next)
      waiter.begin(waiter.arrived + deadline - next.hadTurnAt)
    }
  }

  /** At the end; whoever is in line stays where they are. */
  function takePlaceInLine(share: Share): void {
    const isNext = share.waiting.size > 0 && isWithin(share, firstOf(share.waiting).size)
    if (isNext) line.add(share)
    else line.delete(share)
  }

  /** @returns what is left of the deadline, in milliseconds */
  async function wait(share: Share, size: number): Promise<number> {
    if (share.waiting.size >= longestQueue)
      throw new QueueFull(`${longestQueue} requests of one user wait already`)
    return new Promise((begin, giveUp) => {
      const waiter = { share, size, arrived: performance.now(), begin, giveUp }
      share.waiting.add(waiter)
      arrivals.add(waiter)
      takePlaceInLine(share)
      timer ??= setTimeout(endWaits, patience)
    })
  }

  /** For those whose deadline has passed, or is too near for anything to begin. */
  function endWaits(): void {
    timer = undefined
    for (const waiter of arrivals) {
      const left = waiter.arrived + patience - performance.now()
      if (left > 0) {
        timer = setTimeout(endWaits, Math.ceil(left))
        return
      }
      arrivals.delete(waiter)
      waiter.share.waiting.delete(waiter)
      waiter.giveUp(whyNot(waiter))
      goOn(waiter.share)
    }
  }

  /** Whoever holds all they may, or had a turn just now, is not kept waiting by others. */
  function whyNot({ share, size }: Waiter): Error {
    const isOwn = !isWithin(share, size) || isRecent(share.hadTurnAt, deadline)
    return new (isOwn ? WaitedForOneself : WaitedTooLong)(`No place within ${deadline} ms`)
  }

  return {
    /**
     * Does something in one place, when it is the user's turn.
     *
     * @param work is given what is left of the deadline, in milliseconds
     * @throws QueueFull, WaitedTooLong, WaitedForOneself
     */
    async run<Result>(user: string, work: (left: number) => Promise<Result>): Promise<Result> {
      const share = shareOf(user)
      const left = enters(share, 1) ? deadline : await wait(share, 1)
      try {
        return await work(left)
      } finally {
        leave(share, 1)
      }
    },

    /**
     * Takes several places at once, when it is the user's turn. More than one user may hold is given
     * to a user who holds nothing else, and more than there is counts as all there is.
     *
     * @throws QueueFull, WaitedTooLong, WaitedForOneself
     */
    async take(user: string, size: number): Promise<Hold> {
      const share = shareOf(user)
      let held = Math.min(size, places)
      const left = enters(share, held) ? deadline : await wait(share, held)
      function keep(most: number): void {
        const surplus = held - most
        if (surplus <= 0) return
        held -= surplus
        leave(share, surplus)
      }
      return { left, keep, release: () => keep(0) }
    },
  }
}

function firstOf<Item>(items: Set<Item>): Item {
  const [first] = items
  return first!
}
