import type { Bearer } from '../auth/tokens.ts'
import type { Place } from '../tasks/list/place.ts'
import type { Seen } from '../tasks/sync-token.ts'
import { createAlarms } from '../reminders/alarms.ts'
import type { FireReminders } from '../reminders/reminders.ts'
import type { ChangeFeed, News, Position } from './changes.ts'
import { openStream, type Stream } from './stream.ts'
import { watch, type WatchOptions } from './watch.ts'

export type LiveOptions = Pick<WatchOptions, 'followNews' | 'lookEvery' | 'onTrouble'> & {
  changes: ChangeFeed
  fireReminders: FireReminders
  /** One more ends the user's oldest. */
  maxStreamsPerUser: number
}

export type Live = ReturnType<typeof createLive>

const announceAfter = 5 // ms
const watchOnFor = 10_000 // ms, after the last stream: many are opened again at once

/**
 * The open event streams of this process. A notification is a nudge and no more: each stream then
 * reads from the table what came after the last event that it has sent. Nothing is lost with a
 * notification, and nothing is sent twice.
 */
export function createLive({
  changes,
  fireReminders,
  maxStreamsPerUser,
  onTrouble,
  followNews,
  lookEvery,
}: LiveOptions) {
  const streams = createStreams(maxStreamsPerUser)
  const readTogether = createSharedReads(changes)
  const announceToOthers = createAnnouncements(changes, onTrouble)
  const alarms = createAlarms({
    fire: fireReminders,
    onFired: (owner, isAnything) => (isAnything ? announce(owner) : streams.nudge(owner)),
    onTrouble,
  })
  let stopWatching: (() => Promise<void>) | undefined
  let stopWatchingSoon: Timer | undefined

  /** Watches while there is somebody to tell, so that a database may sleep when nobody is there. */
  function watchOthers(): void {
    clearTimeout(stopWatchingSoon)
    stopWatching ??= watch({
      followNews,
      lookEvery,
      onNews: streams.nudge,
      onMissedNews: streams.nudgeAll,
      look,
      beat: streams.beat,
      onTrouble,
    })
  }

  async function look(): Promise<void> {
    streams.recheck()
    const places = streams.places()
    if (places.length === 0) return
    for (const { owner, epoch } of await changes.behind(places)) streams.nudge(owner, epoch)
  }

  async function endWatch(): Promise<void> {
    clearTimeout(stopWatchingSoon)
    const stop = stopWatching
    stopWatching = undefined
    await stop?.()
  }

  function onEnd(owner: string, stream: Stream): void {
    streams.drop(owner, stream)
    if (!streams.has(owner)) alarms.drop(owner)
    if (!streams.areNone()) return
    clearTimeout(stopWatchingSoon)
    stopWatchingSoon = setTimeout(() => void endWatch().catch(onTrouble), watchOnFor)
  }

  /** Tells this process's streams of a change and, a moment later, the other processes. */
  function announce(owner: string): void {
    streams.nudge(owner)
    announceToOthers(owner)
  }

  /** Every read says when the next reminder is due, so that none is asked for by itself. */
  async function readNews(owner: string, after: number, toldAfter: number): Promise<News> {
    const news = await readTogether(owner, after, toldAfter)
    if (streams.has(owner)) alarms.set(owner, news.until_reminder)
    return news
  }

  return {
    announce,

    /** How many streams are open. */
    count: streams.count,

    /**
     * Opens a stream of the bearer's events (Server-Sent Events), until their token expires or is
     * found to be taken back.
     *
     * @param seen what the client has seen; without it, only what comes is sent
     * @throws DatabaseUnavailable
     */
    async open(
      { userId, expires, recheck }: Bearer,
      seen: Seen | undefined,
    ): Promise<ReadableStream<Uint8Array>> {
      const current = await changes.position(userId)
      const resumes = seen !== undefined && canResume(seen, current)
      const known = resumes ? seen.counter : current.counter
      const told = resumes && seen.isEvent ? known : toldBefore(known, current)
      return openStream({
        start: { epoch: current.epoch, counter: Math.min(known, told) },
        needsResync: seen !== undefined && !resumes,
        endsAt: expires * 1000,
        recheck,
        read: async (position) =>
          readNews(userId, Math.max(position, known), Math.max(position, told)),
        onTrouble,
        onStart(stream) {
          streams.add(userId, stream)
          watchOthers()
        },
        onEnd: (stream) => onEnd(userId, stream),
      })
    },

    /** Ends all streams; clients reconnect, elsewhere or later. */
    async close(): Promise<void> {
      streams.endAll()
      await endWatch()
    },
  }
}

/** A client that has nothing yet need not be told of what was deleted. */
function canResume(after: Place, current: Place & { purged_through: number }): boolean {
  return (
    after.counter === 0 ||
    (after.epoch === current.epoch &&
      after.counter >= current.purged_through &&
      after.counter <= current.counter)
  )
}

/**
 * The reminders up to this number are not told to a stream that begins. Those of the last minute are: whoever
 * was told of them may have been gone already, as a page that is loaded again.
 *
 * @param known the change up to which the client knows the tasks, 0 for none
 */
function toldBefore(known: number, { counter, just_told: justTold }: Position): number {
  return Math.min(known === 0 ? counter : known, justTold === null ? counter : justTold - 1)
}

/** The open streams by their owner. */
function createStreams(maxPerUser: number) {
  const byOwner = new Map<string, Set<Stream>>()
  const all = () => [...byOwner.values()].flatMap((streams) => [...streams])

  function nudge(owner: string, epoch?: string): void {
    for (const stream of byOwner.get(owner) ?? []) stream.nudge(epoch)
  }

  function nudgeAll(): void {
    for (const owner of byOwner.keys()) nudge(owner)
  }

  function beat(): void {
    for (const stream of all()) stream.beat()
  }

  function recheck(): void {
    for (const stream of all()) stream.recheck()
  }

  return {
    nudge,
    nudgeAll,
    beat,
    recheck,
    endAll(): void {
      for (const stream of all()) stream.end()
    },
    count: () => all().length,
    has: (owner: string) => byOwner.has(owner),
    areNone: () => byOwner.size === 0,
    places: () =>
      [...byOwner].flatMap(([owner, streams]) =>
        [...streams].map((stream) => ({ owner, ...stream.place() })),
      ),
    add(owner: string, stream: Stream): void {
      const streams = byOwner.get(owner) ?? new Set()
      byOwner.set(owner, streams.add(stream))
      // Not refused: an EventSource gives up for good on an error, and the oldest may be one whose
      // reader is gone, which takes a while to be noticed.
      const [oldest] = streams
      if (streams.size > maxPerUser) oldest?.end()
    },
    drop(owner: string, stream: Stream): void {
      const streams = byOwner.get(owner)
      streams?.delete(stream)
      if (streams?.size === 0) byOwner.delete(owner)
    },
  }
}

/**
 * One read for all streams of a user that are nudged together. A stream that comes later reads anew:
 * what it was told of may have been committed after this read began.
 */
function createSharedReads(changes: ChangeFeed) {
  const reads = new Map<string, Promise<News>>()
  return async function readTogether(
    owner: string,
    after: number,
    toldAfter: number,
  ): Promise<News> {
    const key = `${after} ${toldAfter} ${owner}`
    const begun = reads.get(key)
    if (begun) return begun
    const read = changes.newsAfter(owner, after, toldAfter)
    reads.set(key, read)
    queueMicrotask(() => reads.delete(key))
    return read
  }
}

/**
 * Tells the other processes of changes, all those of a moment at once. Not in the write's own
 * statement: PostgreSQL commits transactions with a notification one after the other, which halved the
 * rate of writes. If a process dies in that moment, the others find the changes when they look.
 */
function createAnnouncements(changes: ChangeFeed, onTrouble: (error: unknown) => void) {
  const unannounced = new Set<string>()
  function announceAll(): void {
    const owners = [...unannounced]
    unannounced.clear()
    changes.announce(owners).catch(onTrouble)
  }
  return function announce(owner: string): void {
    if (unannounced.size === 0) setTimeout(announceAll, announceAfter)
    unannounced.add(owner)
  }
}
