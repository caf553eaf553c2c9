import type { Stream } from './stream.ts'

/** The open streams by their owner. */
export function createStreams(maxPerUser: number) {
  const byOwner = new Map<string, Set<Stream>>()
  const all = () => [...byOwner.values()].flatMap((streams) => [...streams])

  function nudge(owner: string, epoch?: string): void {
    for (const stream of byOwner.get(owner) ?? []) stream.nudge(epoch)
  }

  function nudgeAll(): void {
    for (const owner of byOwner.keys()) nudge(owner)
  }

  function beat(): void {
    for (const stream of all()) stream.beat()
  }

  function recheck(): void {
    for (const stream of all()) stream.recheck()
  }

  return {
    nudge,
    nudgeAll,
    beat,
    recheck,
    endAll(): void {
      for (const stream of all()) stream.end()
    },
    count: () => all().length,
    has: (owner: string) => byOwner.has(owner),
    areNone: () => byOwner.size === 0,
    places: () =>
      [...byOwner].flatMap(([owner, streams]) =>
        [...streams].map((stream) => ({ owner, ...stream.place() })),
      ),
    add(owner: string, stream: Stream): void {
      const streams = byOwner.get(owner) ?? new Set()
      byOwner.set(owner, streams.add(stream))
      // Not refused: an EventSource gives up for good on an error, and the oldest may be one whose
      // reader is gone, which takes a while to be noticed.
      const [oldest] = streams
      if (streams.size > maxPerUser) oldest?.end()
    },
    drop(owner: string, stream: Stream): void {
      const streams = byOwner.get(owner)
      streams?.delete(stream)
      if (streams?.size === 0) byOwner.delete(owner)
    },
  }
}
