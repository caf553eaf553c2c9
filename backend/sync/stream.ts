import { TokenError, type Bearer } from '../auth/tokens.ts'
import { writePlace, type Place } from '../tasks/list/place.ts'
import type { News, TaskEvent } from './changes.ts'
import { createOutlet } from './outlet.ts'

export type StreamOptions = {
  /** The change after which the stream begins. */
  start: Place
  /** Whether the client must read everything anew, since it cannot resume from what it has seen. */
  needsResync: boolean
  /** When it ends, in milliseconds since 1970. */
  endsAt: number
  recheck: Bearer['recheck']
  /** The events after a change. */
  read: (counter: number) => Promise<News>
  /** Is told of reads that fail and of tokens that cannot be asked about. Both are tried again. */
  onTrouble: (error: unknown) => void
  onStart: (stream: Stream) => void
  onEnd: (stream: Stream) => void
}

/** What the process does with a stream that is open. */
export type Stream = {
  /** How far its client has come. */
  place: () => Place
  /**
   * There may be something new. If the database has been restored since the stream began, it ends:
   * its client resumes, and is told to read everything anew.
   */
  nudge: (epoch?: string) => void
  /** Keeps the connection alive; a reader that has long taken nothing is cut off, and resumes. */
  beat: () => void
  /** Ends if its token has been taken back; as long as that cannot be asked, nothing changes. */
  recheck: () => void
  end: () => void
}

const retryAfter = 1_000 // ms, if the database is away
const reconnectAfter = 3_000 // ms, told to clients
const mostUnsent = 256 * 1024 // bytes; a reader that is further behind waits for the rest
const patienceWithReader = 2 // beats
const longestTimer = 2 ** 31 - 1 // ms

/** Opens one stream of events (Server-Sent Events). It reads what is new whenever it is nudged. */
export function openStream(options: StreamOptions): ReadableStream<Uint8Array> {
  const { start, needsResync, onStart } = options
  let stream: ReturnType<typeof createStream>
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        stream = createStream(controller, options)
        // The id alone, so that a stream that is cut before its first event resumes from here.
        stream.send(`retry: ${reconnectAfter}\nid: ${writePlace(start)}\n\n`)
        if (needsResync) stream.send(`id: ${writePlace(start)}\nevent: resync\ndata: {}\n\n`)
        onStart(stream)
        stream.nudge()
      },
      pull: () => stream.readOn(),
      cancel: () => stream.end(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: mostUnsent }),
  )
}

function createStream(
  controller: ReadableStreamDefaultController<Uint8Array>,
  { start: { epoch, counter }, endsAt, recheck, read, onTrouble, onEnd }: StreamOptions,
) {
  const outlet = createOutlet(controller)
  let position = counter
  let unsent: TaskEvent[] = []
  let isReading = false
  let isNudged = false
  let beatsWithoutRoom = 0
  const expiry = setTimeout(end, Math.min(Math.max(endsAt - Date.now(), 0), longestTimer))

  function sendUnsent(): void {
    while (unsent.length > 0 && outlet.hasRoom()) {
      const { change, type, json } = unsent.shift()!
      outlet.send(
        `id: ${writePlace({ epoch, counter: change })}\nevent: ${type}\ndata: ${json}\n\n`,
      )
      position = change
    }
  }

  /** Nothing happened in between that the client is told of, but it can resume from here. */
  function moveOnTo(reached: number): void {
    position = reached
    outlet.send(`id: ${writePlace({ epoch, counter: reached })}\n\n`)
  }

  async function readAndSend(): Promise<void> {
    isReading = true
    try {
      sendUnsent()
      while (isNudged && outlet.hasRoom()) {
        isNudged = false
        const news = await read(position)
        if (news.epoch !== epoch) return end()
        unsent = [...news.events] // a copy: what is read is shared
        if (unsent.length > 0)
          isNudged = true // there may be more than is read at once
        else if (news.counter > position) moveOnTo(news.counter)
        sendUnsent()
      }
    } catch (error) {
      onTrouble(error)
      setTimeout(nudge, retryAfter)
    } finally {
      isReading = false
    }
  }

  /** The reader has room again. */
  function readOn(): void {
    if (isNudged && !isReading) void readAndSend()
  }

  function nudge(current = epoch): void {
    if (current !== epoch) return end()
    isNudged = true
    if (!isReading && outlet.isOpen()) void readAndSend()
  }

  function beat(): void {
    beatsWithoutRoom = outlet.hasRoom() ? 0 : beatsWithoutRoom + 1
    if (beatsWithoutRoom > patienceWithReader) end()
    else if (outlet.hasRoom()) outlet.send(': still here\n\n')
  }

  function recheckToken(): void {
    recheck?.().catch((error: unknown) => {
      if (error instanceof TokenError) end()
      else onTrouble(error)
    })
  }

  function end(): void {
    if (!outlet.isOpen()) return
    outlet.close()
    clearTimeout(expiry)
    onEnd(stream)
  }

  const stream = {
    place: (): Place => ({ epoch, counter: position }),
    send: (text: string) => outlet.send(text),
    readOn,
    nudge,
    beat,
    recheck: recheckToken,
    end,
  }
  return stream
}
