import type { DatabaseAddress } from './address.ts'
import { openConnection } from './connection.ts'
import { DatabaseUnavailable } from './failures.ts'

export type Listener = {
  /** Sends a notification on that channel, over another connection. */
  notify: (payload: string) => Promise<unknown>
  onPayload: (payload: string) => void
  /** Called when notifications begin or cease to arrive. What was sent before may have been missed. */
  onHearing: (isHearing: boolean) => void
  /** Called once with the reason why notifications do not arrive, until they do again. */
  report: (error: unknown) => void
}

const answersWithin = 2_000 // ms
const betweenProofs = 5_000 // ms
const firstWait = 50 // ms; doubled with every failure
const longestWait = 1_000 // ms
const waitAtPooler = 60_000 // ms
const nobody = ' ' // no user's id

/** `LISTEN` was accepted but nothing is delivered, as happens with a pooler in transaction mode. */
class NothingArrives extends Error {
  override readonly name = 'NothingArrives'

  constructor() {
    super('Notifications do not arrive: is this the address of a pooler?')
  }
}

/**
 * Listens to a channel on a connection of its own, and reconnects whenever it is lost. It proves that
 * notifications arrive by sending one itself, at first and then regularly: a pooler in transaction mode
 * accepts `LISTEN` and delivers nothing, and a line can go dead without a word. The proof is sent over
 * another connection, because a pooler may deliver what a session sends to itself.
 *
 * The driver's own `listen` waits up to 20 s between attempts, and for ever on a dead line.
 *
 * @returns how to stop listening
 */
export function listen(
  address: DatabaseAddress,
  channel: string,
  { notify, onPayload, onHearing, report }: Listener,
): () => Promise<void> {
  const stopping = new AbortController()
  const { signal } = stopping
  const { promise: stopped, resolve } = Promise.withResolvers<void>()
  signal.addEventListener('abort', () => resolve())
  let failures = 0

  /** @throws if the connection cannot be made, is lost, or delivers nothing */
  async function listenOnce(): Promise<void> {
    // While nobody can sign in it is no use trying: the database would only have one more to refuse.
    if (failures > 0) await Promise.race([notify(nobody), stopped])
    if (signal.aborted) return
    const session = openSession(address, channel, { notify, onPayload })
    try {
      await Promise.race([session.prove(), stopped])
      failures = 0
      onHearing(true)
      while (!signal.aborted) {
        await Promise.race([session.lost, Bun.sleep(betweenProofs), stopped])
        await Promise.race([session.prove(), stopped])
      }
    } finally {
      onHearing(false)
      await session.close()
    }
  }

  async function keepListening(): Promise<void> {
    while (!signal.aborted) {
      let wait = Math.min(firstWait * 2 ** failures, longestWait)
      try {
        await listenOnce()
      } catch (error) {
        if (failures === 0) report(error)
        if (error instanceof NothingArrives) wait = waitAtPooler
        failures += 1
      }
      await Promise.race([Bun.sleep(wait), stopped])
    }
  }

  const ended = keepListening()
  return async function stop() {
    stopping.abort()
    await ended
  }
}

function openSession(
  address: DatabaseAddress,
  channel: string,
  { notify, onPayload }: Pick<Listener, 'notify' | 'onPayload'>,
) {
  const proof = ` ${crypto.randomUUID()}` // no user's id is likely to begin with a space
  let arrived: (() => void) | undefined
  const connection = openConnection(address, {
    within: answersWithin,
    onPayload: (payload) => (payload === proof ? arrived?.() : onPayload(payload)),
  })
  const { lost, sql } = connection
  const listening = connection.opened.then(async () => sql.unsafe(`listen ${channel}`))
  listening.catch(() => {}) // it may be closed before it is proven

  return {
    /** Ends with the connection, by an error. */
    lost,
    close: async () => connection.close(),
    /** @throws if a notification does not come back in time */
    async prove(): Promise<void> {
      const arrival = Promise.withResolvers<void>()
      arrived = arrival.resolve
      const sent = listening.then(async () => notify(proof))
      await Promise.race([lost, inTime(sent, new DatabaseUnavailable('No answer in time'))])
      await Promise.race([lost, inTime(arrival.promise, new NothingArrives())])
    },
  }
}

async function inTime(promise: Promise<unknown>, late: Error): Promise<void> {
  const { promise: isLate, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(late), answersWithin)
  promise.catch(() => {}) // the race may be over
  try {
    await Promise.race([promise, isLate])
  } finally {
    clearTimeout(timer)
  }
}
