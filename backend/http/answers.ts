import { setImmediate } from 'node:timers/promises'
import type { Server } from 'bun'
import type { Context } from 'elysia'
import { LRUCache } from 'lru-cache'
import { createTurns } from '../db/turns.ts'
import { WaitedTooLong } from '../db/waiting.ts'
import { NeedsRoom, type Written } from '../db/written.ts'
import { jsonResponse } from './responses.ts'

export type AnswersOptions = {
  /** How long a connection may be quiet, in seconds. */
  idleTimeout: number
  /** How long an answer may wait for room, in milliseconds. */
  deadline?: number
}

export type Answers = ReturnType<typeof createAnswers>

type Asked = {
  userId: string
  set: Context['set']
  request: Request
  server: Server<unknown> | null
  /** What is asked for, if its URL does not say so. */
  name?: string
}

type Make<Answer> = (most: number) => Promise<Answer>

const smallAnswer = 64 * 1024 // bytes; the socket takes it at once, so that nothing is kept
const roomForAll = 96 * 1024 * 1024 // bytes
const roomPerUser = 24 * 1024 * 1024 // bytes
const longestQueue = 100 // answers of one user
const stillArrives = 1_000 // ms, of an answer that was given up at its deadline
const mostAttempts = 3
const toGrow = 1.1 // between two readings of a list
const chunk = 64 * 1024 // characters
const patienceWithReader = 30 // s in which it takes nothing

/**
 * Answers that may be large. How much of them is made or sent at a time is limited, for each user and for
 * the process; beyond that they wait, and users take turns. PostgreSQL says how large an answer is before
 * it is fetched; its last size is remembered, so that the question is asked only once.
 */
export function createAnswers({ idleTimeout, deadline = 5_000 }: AnswersOptions) {
  const room = createTurns({
    places: roomForAll,
    perUser: roomPerUser,
    longestQueue,
    deadline,
  })
  /** How large answers were, by a hash of what was asked: a URL may have 250 KB. */
  const expected = new LRUCache<bigint | number, number>({ max: 1_000 })

  async function makeWithRoom(
    user: string,
    asked: string,
    make: Make<Written | undefined>,
  ): Promise<{ written: Written | undefined; release?: () => void }> {
    const place = Bun.hash(asked)
    for (let attempt = 0; attempt < mostAttempts; attempt += 1) {
      const most = expected.get(place) ?? smallAnswer
      const hold = most > smallAnswer ? await room.take(user, most) : undefined
      try {
        const written = await make(most)
        if (hold === undefined) return { written }
        hold.keep(written?.bytes ?? 0)
        return { written, release: hold.release }
      } catch (error) {
        if (!(error instanceof NeedsRoom)) {
          if (hold) setTimeout(hold.release, stillArrives)
          throw error
        }
        hold?.release()
        expected.set(place, Math.ceil(error.bytes * toGrow))
      }
    }
    throw new WaitedTooLong(`The answer has grown ${mostAttempts} times while it was read`)
  }

  async function send<Body>(asked: Asked, make: Make<Written>): Promise<Body>
  async function send<Body>(
    asked: Asked,
    make: Make<Written | undefined>,
  ): Promise<Body | undefined>
  async function send<Body>(
    { userId, set, request, server, name = request.url }: Asked,
    make: Make<Written | undefined>,
  ): Promise<Body | undefined> {
    const { written, release } = await makeWithRoom(userId, `${userId} ${name}`, make)
    if (written === undefined) return undefined
    if (release === undefined || written.bytes <= smallAnswer) {
      release?.()
      return jsonResponse<Body>(set, written.json)
    }
    sentInParts.add(request)
    server?.timeout(request, patienceWithReader)
    const chunks = inChunks(written.json, function endSending() {
      release()
      server?.timeout(request, idleTimeout)
    })
    return jsonResponse<Body>(set, chunks)
  }

  return {
    /**
     * Makes an answer of JSON and sends it. A large one is sent as fast as it is read, without a
     * Content-Length; a reader that takes nothing for half a minute is cut off.
     *
     * @param make gives the answer, or `undefined` if it has no body, and throws `NeedsRoom` if it
     *   would have more bytes than it is given
     * @throws QueueFull, WaitedTooLong, WaitedForOneself
     */
    send,
  }
}

const sentInParts = new WeakSet<Request>()

/** Whether the answer to a request is a large one, which nobody should hold in memory as a whole. */
export function isSentInParts(request: Request): boolean {
  return sentInParts.has(request)
}

const encoder = new TextEncoder()

/** @param onEnd is called once it has been taken whole, or nobody is there to take it */
function inChunks(text: string, onEnd: () => void): ReadableStream<Uint8Array> {
  let position = 0
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        // A reader that takes everything at once would keep all others waiting until it has.
        await setImmediate()
        let end = Math.min(position + chunk, text.length)
        if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1
        controller.enqueue(encoder.encode(text.slice(position, end)))
        position = end
        if (end < text.length) return
        controller.close()
        onEnd()
      },
      cancel: onEnd,
    },
    { highWaterMark: 0 },
  )
}

/** The first half of a character, which cannot be encoded without the second. */
function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff
}
