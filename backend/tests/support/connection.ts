import { connect } from 'node:net'

export type Received = { status: number; headers: Headers; text: string }

/**
 * One HTTP/1.1 connection, one request after the other on it. `fetch` will not do when lost requests
 * are counted: it sends a request again by itself when a kept connection is closed under it.
 */
export async function openConnection(port: number) {
  const socket = connect(port, '127.0.0.1').setNoDelay()
  let received = ''
  let isClosed = false
  let wake: () => void = () => {}
  const opened = Promise.withResolvers<void>()
  socket.setEncoding('latin1')
  socket.once('connect', opened.resolve)
  socket.once('error', opened.reject)
  socket.on('data', (text: string) => {
    received += text
    wake()
  })
  socket.on('close', () => {
    isClosed = true
    wake()
  })
  await opened.promise

  async function until<Found>(find: () => Found | undefined): Promise<Found> {
    for (;;) {
      const found = find()
      if (found !== undefined) return found
      if (isClosed) throw new Error(`Closed amid an answer, after ${received.length} bytes`)
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }

  return {
    /** Whether the last answer said that it is the last one, or the connection is gone. */
    isClosed: () => isClosed,
    /** @throws Error if the connection ends without a whole answer */
    async request(
      method: string,
      path: string,
      headers: Record<string, string>,
      json?: unknown,
    ): Promise<Received> {
      const body = json === undefined ? '' : JSON.stringify(json)
      const lines = Object.entries({
        host: `127.0.0.1:${port}`,
        ...headers,
        ...(json !== undefined && {
          'content-type': 'application/json',
          'content-length': String(Buffer.byteLength(body)),
        }),
      }).map((line) => `${line.join(': ')}\r\n`)
      socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`)
      const end = await until(() => {
        const index = received.indexOf('\r\n\r\n')
        return index < 0 ? undefined : index
      })
      const [first = '', ...fields] = received.slice(0, end).split('\r\n')
      const answered = new Headers(
        fields.map((field): [string, string] => {
          const colon = field.indexOf(':')
          return [field.slice(0, colon), field.slice(colon + 1).trim()]
        }),
      )
      const status = Number(first.split(' ')[1])
      const hasBody = ![204, 304].includes(status) && method !== 'HEAD'
      const length = hasBody ? Number(answered.get('content-length')) : 0
      const start = end + 4
      const bytes = await until(() =>
        received.length < start + length ? undefined : received.slice(start, start + length),
      )
      received = received.slice(start + length)
      if (answered.get('connection') === 'close') {
        isClosed = true
        socket.destroy()
      }
      return { status, headers: answered, text: Buffer.from(bytes, 'latin1').toString() }
    },
    close: () => socket.destroy(),
  }
}
