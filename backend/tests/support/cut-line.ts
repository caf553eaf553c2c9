import { connect, createServer, type AddressInfo } from 'node:net'

/** A proxy to a server that cuts the line after a given number of bytes of answers. */
export async function startCutLine(serverPort: number) {
  let remaining = Infinity
  const line = createServer((client) => {
    const server = connect(serverPort, 'localhost')
    const cut = () => {
      client.destroySoon()
      server.destroy()
    }
    client.on('data', (bytes) => server.write(bytes))
    server.on('data', (bytes: Buffer) => {
      client.write(bytes.subarray(0, remaining))
      remaining -= bytes.length
      if (remaining <= 0) cut()
    })
    for (const end of [client, server]) end.on('error', cut).on('close', cut)
  })
  const listening = Promise.withResolvers<void>()
  line.listen(0, 'localhost', listening.resolve)
  await listening.promise
  return {
    port: (line.address() as AddressInfo).port,
    cutAfter(bytes: number) {
      remaining = bytes
    },
    close: () => line.close(),
  }
}
