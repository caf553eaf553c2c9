export type ReceivedEvent = { id: string; event: string; data: unknown }

/**
 * Opens a stream of Server-Sent Events, as a client that can send headers does.
 *
 * @param onEvent is told of each event as it comes
 */
export async function openEvents(
  url: string,
  headers: Record<string, string> = {},
  onEvent: (event: ReceivedEvent) => void = () => {},
) {
  const abort = new AbortController()
  const response = await fetch(url, { headers, signal: abort.signal })
  const events: ReceivedEvent[] = []
  const comments: string[] = []
  let lastId = ''
  const waiting = new Set<() => void>()

  const ended = (async () => {
    const decoder = new TextDecoder()
    let rest = ''
    for await (const chunk of response.body!) {
      rest += decoder.decode(chunk, { stream: true })
      const blocks = rest.split('\n\n')
      rest = blocks.pop()!
      for (const block of blocks) receive(block)
      for (const wake of waiting) wake()
    }
  })()
    // A cut connection is an end, too.
    .catch(() => {})

  function receive(block: string): void {
    const fields = block.split('\n').map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trimStart()] as const
    })
    const field = (name: string) => fields.find(([key]) => key === name)?.[1]
    const comment = field('')
    if (comment !== undefined) comments.push(comment)
    lastId = field('id') ?? lastId
    if (field('data') === undefined) return
    const received = {
      id: field('id') ?? '',
      event: field('event') ?? 'message',
      data: JSON.parse(field('data')!) as unknown,
    }
    events.push(received)
    onEvent(received)
  }

  /** Waits until the condition holds. The runner stops a test that waits for ever. */
  async function until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting.add(resolve)
      await promise
      waiting.delete(resolve)
    }
  }

  return {
    status: response.status,
    headers: response.headers,
    events,
    comments,
    /** What an EventSource would send to resume; a block without data moves it on, too. */
    lastId: () => lastId,
    until,
    received: async (count: number) => until(() => events.length >= count),
    close: () => abort.abort(),
    ended,
  }
}
