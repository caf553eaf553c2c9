import { write } from 'node:fs'

/** Where text is left for a reader who may be slow, or gone. */
export type Output = {
  /** Takes a text at once, or drops it if too much waits already. */
  write: (text: string) => void
  /** Resolves when all is written, when it cannot be, or after so many milliseconds. */
  flush: (patience: number) => Promise<void>
}

const batchFor = 20 // ms; a system call for each line costs more than making it
const tryAgainAfter = 1_000 // ms
const mostWaiting = 1024 * 1024 // characters

/**
 * Writes to a file descriptor and makes nobody wait, whatever is behind it: a pipe that is not read,
 * a terminal that was stopped, a full disk. The write itself runs on a thread of the runtime's, one at
 * a time. Not `process.stdout`: that blocks on a terminal, and makes a pipe non-blocking for all other
 * processes that hold it, too. Not pino's own destination either: sonic-boom 4.2.1 loops for ever on
 * EPIPE and ENOSPC, blocks on a full pipe, and waits for the disk.
 *
 * @param onDropped is told how many texts were dropped, once there is room again
 */
export function createOutput(
  descriptor: number,
  onDropped: (count: number) => void = () => {},
): Output {
  let waiting = ''
  let sending = Buffer.alloc(0)
  let isWriting = false
  let dropped = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  let settle: (() => void)[] = []

  function send(): void {
    clearTimeout(timer)
    timer = undefined
    if (isWriting) return
    if (sending.length === 0) {
      sending = Buffer.from(waiting)
      waiting = ''
    }
    if (sending.length === 0) return settleAll()
    isWriting = true
    write(descriptor, sending, 0, sending.length, null, (error, written) => {
      isWriting = false
      if (error) return postpone(error)
      sending = sending.subarray(written)
      if (sending.length === 0) tellDropped()
      if (sending.length > 0 || settle.length > 0) send()
      else if (waiting !== '') timer = setTimeout(send, batchFor)
    })
  }

  /** What was not written stays first in line, so that no line is torn. */
  function postpone({ code }: NodeJS.ErrnoException): void {
    // Another process that holds the pipe has made it non-blocking, and it is full.
    if (code === 'EAGAIN') {
      timer = setTimeout(send, batchFor)
      return
    }
    timer = setTimeout(send, tryAgainAfter)
    timer.unref()
    settleAll()
  }

  function tellDropped(): void {
    if (dropped > 0) onDropped(dropped)
    dropped = 0
  }

  function settleAll(): void {
    for (const done of settle) done()
    settle = []
  }

  return {
    write(text) {
      if (waiting.length + sending.length + text.length > mostWaiting) {
        dropped += 1
        return
      }
      waiting += text
      if (!isWriting) timer ??= setTimeout(send, batchFor)
    },
    async flush(patience) {
      const { promise, resolve } = Promise.withResolvers<void>()
      settle.push(resolve)
      send()
      const late = setTimeout(resolve, patience)
      await promise
      clearTimeout(late)
    },
  }
}
