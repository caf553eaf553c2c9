import type { Listener } from '../db/listen.ts'

/** Tells whose tasks have changed, wherever that was, as long as it can; returns how to stop it. */
export type FollowNews = (listener: Omit<Listener, 'notify'>) => () => Promise<void>

export type WatchOptions = {
  /** Absent if no news comes from elsewhere: changes are looked for then. */
  followNews?: FollowNews | undefined
  /** How long to wait before looking again for changes that nobody announced, in milliseconds. */
  lookEvery?: number | undefined
  /** There may be changes of this user's tasks. */
  onNews: (owner: string) => void
  /** Any user's tasks may have changed: news has been missed. */
  onMissedNews: () => void
  look: () => Promise<void>
  beat: () => void
  /** Is told why news does not arrive, or a look failed. */
  onTrouble: (error: unknown) => void
}

const heartbeat = 15_000 // ms
const withNews = 15_000 // ms
const withoutNews = 1_000 // ms
const watchOnFor = 10_000 // ms, after the last stream: many are opened again at once

/** Watches while there is somebody to tell, so that a database may sleep when nobody is there. */
export function createWatching(options: WatchOptions) {
  let stop: (() => Promise<void>) | undefined
  let endingSoon: Timer | undefined

  async function end(): Promise<void> {
    clearTimeout(endingSoon)
    const stopNow = stop
    stop = undefined
    await stopNow?.()
  }

  return {
    /** Called when there is somebody to tell. */
    begin(): void {
      clearTimeout(endingSoon)
      stop ??= watch(options)
    },
    /** Called when there is nobody left to tell; watching ends if nobody comes back. */
    endSoon(): void {
      clearTimeout(endingSoon)
      endingSoon = setTimeout(() => void end().catch(options.onTrouble), watchOnFor)
    },
    end,
  }
}

/**
 * Watches for changes that other processes make, until it is told to stop. As long as it hears of
 * them it looks only now and then.
 *
 * @returns how to stop
 */
function watch(options: WatchOptions): () => Promise<void> {
  const { followNews, lookEvery = withoutNews, onNews, onMissedNews, beat, onTrouble } = options
  let isLooking = false
  async function look(): Promise<void> {
    if (isLooking) return
    isLooking = true
    await options.look().catch(onTrouble)
    isLooking = false
  }
  const lookEach = (wait: number) => setInterval(() => void look(), wait)
  let isHearing = false
  let looking = lookEach(lookEvery)
  const beating = setInterval(beat, heartbeat)
  const stopFollowing = followNews?.({
    onPayload: onNews,
    onHearing(hears) {
      // Every attempt that fails says so: the next look comes no later for it.
      if (hears !== isHearing) {
        clearInterval(looking)
        looking = lookEach(hears ? withNews : withoutNews)
      }
      isHearing = hears
      if (hears) onMissedNews()
    },
    report: onTrouble,
  })
  return async function stop() {
    await stopFollowing?.()
    clearInterval(looking)
    clearInterval(beating)
  }
}
