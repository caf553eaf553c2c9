import type { Bearer } from '../auth/tokens.ts'
import { writePlace, type Place } from '../tasks/list/place.ts'
import type { TaskChanges, TaskEvent } from './changes.ts'

/** Tells whose tasks have changed, wherever that was, while it can; gives back how to stop. */
export type Listen = (listener: {
  onPayload: (owner: string) => void
  onHearing: (isHearing: boolean) => void
  report: (error: unknown) => void
}) => () => Promise<void>

export type LiveOptions = {
  changes: TaskChanges
  /** Absent where no news comes from elsewhere: they are asked for then. */
  listen?: Listen | undefined
  /** Between two looks for changes that nobody told of, in milliseconds. */
  lookEvery?: number | undefined
  /** One more ends the user's oldest. */
  maxStreamsPerUser: number
  report: (error: unknown) => void
}

export type Live = ReturnType<typeof createLive>

const heartbeat = 15_000 // ms
const withListener = 15_000 // ms
const withoutListener = 1_000 // ms
const announceAfter = 5 // ms
const watchOnFor = 10_000 // ms, after the last stream: many are opened again at once
const retryAfter = 1_000 // ms, where the database is away
const reconnectAfter = 3_000 // ms, told to clients
const mostUnsent = 256 * 1024 // bytes; a reader that is further behind waits for the rest
const patienceWithReader = 2 // heartbeats in which it takes nothing; then it is cut off, and resumes
const longestTimer = 2 ** 31 - 1 // ms

const encoder = new TextEncoder()

/**
 * The open event streams of this process. A notification is a nudge and no more: each stream then
 * reads from the table what came after the last event that it has sent. Nothing is lost with a
 * notification, and nothing is sent twice.
 */
export function createLive({ changes, listen, lookEvery, maxStreamsPerUser, report }: LiveOptions) {
  const streams = new Map<string, Set<Stream>>()
  let stopWatching: (() => Promise<void>) | undefined
  let stopWatchingSoon: Timer | undefined

  const reads = new Map<string, Promise<TaskEvent[]>>()

  /**
   * One read for all streams of a user that are nudged together. Who comes later reads anew: what
   * they were told of may have been committed after this read began.
   */
  async function readTogether(owner: string, after: number): Promise<TaskEvent[]> {
    const key = `${after} ${owner}`
    const begun = reads.get(key)
    if (begun) return begun
    const read = changes.eventsAfter(owner, after)
    reads.set(key, read)
    queueMicrotask(() => reads.delete(key))
    return read
  }

  function nudge(owner: string): void {
    for (const stream of streams.get(owner) ?? []) stream.nudge()
  }

  const unannounced = new Set<string>()

  /**
   * Tells this process's streams and, a moment later and all at once, the other processes. Not in the
   * write's own statement: PostgreSQL commits transactions with a notification one after the other,
   * which halved the rate of writes. Where a process dies in that moment, the others look.
   */
  function announce(owner: string): void {
    nudge(owner)
    if (unannounced.size === 0) setTimeout(announceAll, announceAfter)
    unannounced.add(owner)
  }

  function announceAll(): void {
    const owners = [...unannounced]
    unannounced.clear()
    changes.announce(owners).catch(report)
  }

  function nudgeAll(): void {
    for (const owner of streams.keys()) nudge(owner)
  }

  /** Watches while there is somebody to tell, so that a database may sleep when nobody is there. */
  function watch(): () => Promise<void> {
    const look = () => void lookForChanges().catch(report)
    let looking = setInterval(look, lookEvery ?? withoutListener)
    const beating = setInterval(() => {
      for (const stream of allStreams()) stream.beat()
    }, heartbeat)
    const stopListening = listen?.({
      onPayload: nudge,
      onHearing(isHearing) {
        clearInterval(looking)
        looking = setInterval(look, isHearing ? withListener : withoutListener)
        if (isHearing) nudgeAll() // what was told before that was not heard
      },
      report,
    })
    return async function stop() {
      await stopListening?.()
      clearInterval(looking)
      clearInterval(beating)
    }
  }

  const allStreams = () => [...streams.values()].flatMap((set) => [...set])

  async function lookForChanges(): Promise<void> {
    if (streams.size === 0) return
    const places = [...streams].flatMap(([owner, set]) =>
      [...set].map((stream) => ({ owner, ...stream.place() })),
    )
    for (const { owner, epoch } of await changes.behind(places))
      for (const stream of streams.get(owner) ?? []) stream.nudge(epoch)
  }

  function add(owner: string, stream: Stream): void {
    const set = streams.get(owner) ?? new Set()
    streams.set(owner, set.add(stream))
    // Not refused: an EventSource gives up for good on an error, and the oldest may be one whose
    // reader is gone, which takes a while to be noticed.
    const [oldest] = set
    if (set.size > maxStreamsPerUser) oldest?.end()
    clearTimeout(stopWatchingSoon)
    stopWatching ??= watch()
  }

  function drop(owner: string, stream: Stream): void {
    const set = streams.get(owner)
    set?.delete(stream)
    if (set?.size === 0) streams.delete(owner)
    if (streams.size > 0) return
    clearTimeout(stopWatchingSoon)
    stopWatchingSoon = setTimeout(() => void endWatch().catch(report), watchOnFor)
  }

  async function endWatch(): Promise<void> {
    clearTimeout(stopWatchingSoon)
    const stop = stopWatching
    stopWatching = undefined
    await stop?.()
  }

  return {
    announce,

    /** How many streams are open. */
    count: () => allStreams().length,

    /**
     * Opens a stream of the bearer's events (Server-Sent Events), until their token expires.
     *
     * @param after the last change that the client has seen, 0 for none; without it, only what comes is
     *   sent
     * @throws DatabaseUnavailable
     */
    async open(
      { userId, expires }: Bearer,
      after: Place | undefined,
    ): Promise<ReadableStream<Uint8Array>> {
      const { epoch, counter, purged_through } = await changes.position(userId)
      // Who has nothing yet need not hear of what was deleted.
      const isKnown =
        after !== undefined &&
        (after.counter === 0 ||
          (after.epoch === epoch && after.counter >= purged_through && after.counter <= counter))
      const start = { epoch, counter: isKnown ? after.counter : counter }
      const needsResync = after !== undefined && !isKnown
      let stream: Stream
      return new ReadableStream<Uint8Array>(
        {
          start(controller) {
            stream = createStream(
              controller,
              start,
              async (position) => readTogether(userId, position),
              {
                report,
                onEnd: () => drop(userId, stream),
              },
            )
            // The id alone, so that a stream that is cut before its first event resumes from here.
            stream.send(`retry: ${reconnectAfter}\nid: ${writePlace(start)}\n\n`)
            if (needsResync)
              stream.send(`id: ${writePlace({ epoch, counter })}\nevent: resync\ndata: {}\n\n`)
            add(userId, stream)
            stream.endAt(expires * 1000)
            stream.nudge()
          },
          pull: () => stream.drained(),
          cancel: () => stream.end(),
        },
        new ByteLengthQueuingStrategy({ highWaterMark: mostUnsent }),
      )
    },

    /** Ends all streams; clients reconnect, elsewhere or later. */
    async close(): Promise<void> {
      for (const stream of allStreams()) stream.end()
      await endWatch()
    },
  }
}

type Stream = ReturnType<typeof createStream>

function createStream(
  controller: ReadableStreamDefaultController<Uint8Array>,
  start: Place,
  read: (position: number) => Promise<TaskEvent[]>,
  { report, onEnd }: { report: (error: unknown) => void; onEnd: () => void },
) {
  const { epoch } = start
  let position = start.counter
  let unsent: TaskEvent[] = []
  let isOpen = true
  let isReading = false
  let isNudged = false
  let beatsWithoutRoom = 0
  let expiry: Timer | undefined

  const hasRoom = () => isOpen && (controller.desiredSize ?? 0) > 0

  function send(text: string): void {
    if (isOpen) controller.enqueue(encoder.encode(text))
  }

  function end(): void {
    if (!isOpen) return
    isOpen = false
    clearTimeout(expiry)
    onEnd()
    try {
      controller.close()
    } catch {
      // The client has closed it already.
    }
  }

  /** Sends what has been read and has room. */
  function sendOn(): void {
    while (unsent.length > 0 && hasRoom()) {
      const { change, type, json } = unsent.shift()!
      send(`id: ${writePlace({ epoch, counter: change })}\nevent: ${type}\ndata: ${json}\n\n`)
      position = change
    }
  }

  async function readOn(): Promise<void> {
    isReading = true
    try {
      sendOn()
      while (isNudged && hasRoom()) {
        isNudged = false
        // A copy: what is read is shared.
        unsent = [...(await read(position))]
        if (unsent.some((event) => event.epoch !== epoch)) return end()
        if (unsent.length > 0) isNudged = true // there may be more than is read at once
        sendOn()
      }
    } catch (error) {
      report(error)
      setTimeout(nudge, retryAfter)
    } finally {
      isReading = false
    }
  }

  /**
   * There may be something new. If the database has been restored since this stream began, it ends:
   * its client resumes, and is told that it must read anew.
   */
  function nudge(current = epoch): void {
    if (current !== epoch) return end()
    isNudged = true
    if (!isReading && isOpen) void readOn()
  }

  return {
    send,
    end,
    place: (): Place => ({ epoch, counter: position }),
    beat(): void {
      beatsWithoutRoom = hasRoom() ? 0 : beatsWithoutRoom + 1
      if (beatsWithoutRoom > patienceWithReader) end()
      else if (hasRoom()) send(': still here\n\n')
    },
    /** The reader has taken something. */
    drained(): void {
      if (isNudged && !isReading) void readOn()
    },
    nudge,
    endAt(time: number): void {
      expiry = setTimeout(end, Math.min(Math.max(time - Date.now(), 0), longestTimer))
    },
  }
}
