import { connect } from 'node:net'
import type { WireAnswer } from './openapi.ts'

/** Requests as bytes, and answers read as strictly as RFC 9112 lets one. */

export type Message = {
  method?: string
  /** As the request line has it, with the query. */
  target: string
  headers?: Record<string, string>
  body?: string | Uint8Array
}

/** The bytes of a request. Nothing of it is checked or escaped; text is sent in UTF-8. */
export function bytesOf({ method = 'GET', target, headers = {}, body }: Message): Buffer {
  const content = Buffer.from(body ?? '')
  const lines = Object.entries({
    host: 'localhost',
    ...(body !== undefined && {
      'content-type': 'application/json',
      'content-length': String(content.length),
    }),
    ...headers,
  }).map((header) => header.join(': '))
  const head = [`${method} ${target} HTTP/1.1`, ...lines, '', ''].join('\r\n')
  return Buffer.concat([Buffer.from(head), content])
}

export type Exchange = {
  answers: WireAnswer[]
  /** How it ended: all answers came, or the server closed before that, or nobody did anything. */
  ending: 'answered' | 'closed' | 'late'
}

export type ExchangeOptions = {
  /** The methods of the requests in the bytes: one answer is awaited for each. */
  to?: string[]
  /** Whether our side of the connection is closed after the bytes. */
  ended?: boolean
  /** Waits no longer than for this. Default: a deadline. */
  until?: Promise<unknown>
}

const deadline = 10_000 // ms

/**
 * Sends bytes on a connection of its own and waits for answers to them.
 *
 * @throws Error if what comes back is not HTTP
 */
export async function exchange(
  port: number,
  bytes: string | Uint8Array,
  { to = ['GET'], ended = false, until }: ExchangeOptions = {},
): Promise<Exchange> {
  const received: Buffer[] = []
  const { promise, resolve, reject } = Promise.withResolvers<Exchange>()
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })

  function look(otherwise?: 'closed' | 'late'): void {
    try {
      const isClosed = otherwise === 'closed'
      const answers = readAnswers(Buffer.concat(received), to, isClosed)
      if (answers.length >= to.length) resolve({ answers, ending: 'answered' })
      else if (otherwise) resolve({ answers, ending: otherwise })
    } catch (error) {
      reject(error)
    }
  }

  socket.on('data', (chunk: Buffer) => {
    received.push(chunk)
    look()
  })
  for (const event of ['end', 'close', 'error']) socket.on(event, () => look('closed'))
  socket.write(bytes)
  if (ended) socket.end()
  const timer = setTimeout(() => look('late'), deadline)
  void until?.then(() => look('late'))
  return promise.finally(() => {
    clearTimeout(timer)
    socket.destroy()
  })
}

/** The answers that are whole. */
function readAnswers(bytes: Buffer, to: string[], isClosed: boolean): WireAnswer[] {
  const answers: WireAnswer[] = []
  let at = 0
  while (answers.length < to.length) {
    const headEnd = bytes.indexOf('\r\n\r\n', at)
    if (headEnd === -1) break
    const { status, headers } = readHead(bytes.toString('latin1', at, headEnd))
    at = headEnd + 4
    if (status < 200) continue
    const isWithoutBody =
      to[answers.length] === 'HEAD' ||
      status === 204 ||
      status === 304 ||
      // It has no end.
      headers.get('content-type') === 'text/event-stream'
    const body = isWithoutBody ? { text: '', end: at } : readBody(bytes, at, headers, isClosed)
    if (body === undefined) break
    answers.push({ status, headers, text: body.text })
    at = body.end
  }
  return answers
}

function readHead(head: string): Pick<WireAnswer, 'status' | 'headers'> {
  const [statusLine, ...lines] = head.split('\r\n')
  const [, status] = /^HTTP\/1\.1 (\d{3})(?: .*)?$/.exec(statusLine!) ?? []
  if (status === undefined) throw new Error(`This is no status line: ${statusLine}`)
  const headers = new Headers()
  for (const line of lines) {
    const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    if (name === undefined) throw new Error(`This is no header: ${line}`)
    headers.append(name, value!)
  }
  return { status: Number(status), headers }
}

function readBody(
  bytes: Buffer,
  start: number,
  headers: WireAnswer['headers'],
  isClosed: boolean,
): { text: string; end: number } | undefined {
  if (headers.get('transfer-encoding') === 'chunked') return readChunks(bytes, start)
  const length = headers.get('content-length')
  const end = length === null ? (isClosed ? bytes.length : Infinity) : start + Number(length)
  return end > bytes.length ? undefined : { text: bytes.toString('utf8', start, end), end }
}

function readChunks(bytes: Buffer, start: number): { text: string; end: number } | undefined {
  const chunks: Buffer[] = []
  for (let at = start; ;) {
    const lineEnd = bytes.indexOf('\r\n', at)
    if (lineEnd === -1) return undefined
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    at = lineEnd + 2 + size + 2
    if (at > bytes.length) return undefined
    if (size === 0) return { text: Buffer.concat(chunks).toString(), end: at }
    chunks.push(bytes.subarray(at - 2 - size, at - 2))
  }
}
