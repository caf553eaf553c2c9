import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** What the line does to bytes: `silent` swallows them, for good on the lines it had then. */
export type Weather = 'clear' | 'silent' | 'delayed' | 'trickling'

export type Proxy = Awaited<ReturnType<typeof startProxy>>

const drop = 16 // bytes
const betweenDrops = 2 // ms

type Line = { client: Socket; server: Socket; isDead: boolean }

/** A way to a server on this machine that can do what networks do. */
export async function startProxy(serverPort: number) {
  let weather: Weather = 'clear'
  let delay: number
  let target = serverPort
  const lines = new Set<Line>()

  const listener = createServer({ allowHalfOpen: true }, (client) => {
    const server = connect({ port: target, host: 'localhost', allowHalfOpen: true })
    const line = { client, server, isDead: weather === 'silent' }
    lines.add(line)
    carry(line, client, server)
    carry(line, server, client)
  })

  function carry(line: Line, from: Socket, to: Socket): void {
    let earlier = Promise.resolve()
    const inTurn = (action: () => Promise<void>) => {
      earlier = earlier.then(action)
    }
    from.on('data', (bytes: Buffer) => {
      if (line.isDead) return
      const now = weather
      if (now === 'delayed') {
        const due = Bun.sleep(delay)
        inTurn(async () => {
          await due
          to.write(bytes)
        })
      } else if (now === 'trickling')
        inTurn(async () => {
          for (let at = 0; at < bytes.length && !to.destroyed; at += drop) {
            to.write(bytes.subarray(at, at + drop))
            await Bun.sleep(betweenDrops)
          }
        })
      else inTurn(async () => void to.write(bytes))
    })
    from.on('end', () => {
      if (!line.isDead) inTurn(async () => void to.end())
    })
    from.on('error', () => cut(line))
    from.on('close', () => {
      if (line.isDead) cut(line)
      else inTurn(async () => cut(line))
    })
  }

  function cut(line: Line): void {
    lines.delete(line)
    line.client.destroy()
    line.server.destroy()
  }

  const listening = Promise.withResolvers<void>()
  listener.listen(0, 'localhost', listening.resolve)
  await listening.promise

  return {
    port: (listener.address() as AddressInfo).port,
    /** @param each how long bytes are on their way if the line is `delayed`, in milliseconds */
    become(next: Weather, each = 100): void {
      weather = next
      delay = each
      if (next === 'silent') for (const line of lines) line.isDead = true
    },
    /** Leads new lines to another server, as a name does after a failover; existing lines stay. */
    leadTo(port: number): void {
      target = port
    },
    /** Cuts every line as a crashed machine does: with RST. */
    reset(): void {
      for (const line of lines) {
        line.client.resetAndDestroy()
        line.server.resetAndDestroy()
        lines.delete(line)
      }
    },
    /** Ends what the server says on every line; what the client says still gets through. */
    halfClose(): void {
      for (const { client } of lines) client.end()
    },
    close(): void {
      listener.close()
      for (const line of lines) cut(line)
    },
  }
}
