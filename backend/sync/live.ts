import type { Bearer } from '../auth/tokens.ts'
import type { Place } from '../tasks/list/place.ts'
import type { Seen } from '../tasks/sync-token.ts'
import { createAlarms } from '../reminders/alarms.ts'
import type { FireReminders } from '../reminders/reminders.ts'
import { createAnnouncements } from './announcements.ts'
import type { ChangeFeed, News, Position } from './changes.ts'
import { createStreams } from './open-streams.ts'
import { createSharedReads } from './shared-reads.ts'
import { openStream, type Stream } from './stream.ts'
import { createWatching, type WatchOptions } from './watch.ts'

export type LiveOptions = Pick<WatchOptions, 'followNews' | 'lookEvery' | 'onTrouble'> & {
  changes: ChangeFeed
  fireReminders: FireReminders
  /** Opening one more ends the user's oldest. */
  maxStreamsPerUser: number
}

export type Live = ReturnType<typeof createLive>

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
  const watching = createWatching({
    followNews,
    lookEvery,
    onNews: streams.nudge,
    onMissedNews: streams.nudgeAll,
    look,
    beat: streams.beat,
    onTrouble,
  })

  async function look(): Promise<void> {
    streams.recheck()
    const places = streams.places()
    if (places.length === 0) return
    for (const { owner, epoch } of await changes.behind(places)) streams.nudge(owner, epoch)
  }

  function onEnd(owner: string, stream: Stream): void {
    streams.drop(owner, stream)
    if (!streams.has(owner)) alarms.drop(owner)
    if (streams.areNone()) watching.endSoon()
  }

  /** Tells this process's streams of a change and, a moment later, the other processes. */
  function announce(owner: string): void {
    streams.nudge(owner)
    announceToOthers(owner)
  }

  /** Every read says when the next reminder is due, so that none is asked for by itself. */
  async function readNews(owner: string, after: number, toldAfter: number): Promise<News> {
    const news = await readTogether(owner, after, toldAfter)
    const { epoch, counter, until_reminder } = news
    if (streams.has(owner)) alarms.set(owner, until_reminder, { epoch, counter })
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
          watching.begin()
        },
        onEnd: (stream) => onEnd(userId, stream),
      })
    },

    /** Ends all streams; clients reconnect, elsewhere or later. */
    async close(): Promise<void> {
      streams.endAll()
      await watching.end()
    },
  }
}

/** A client that has no tasks yet is not told of deletions. */
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
