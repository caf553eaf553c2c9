const pause = 60_000 // ms

/** Says the first of a kind at once, and once a minute how many have followed. */
export type SayRepeats = (kind: string, first: () => void, more: (count: number) => void) => void

/** For what goes wrong with every request at the same time, as while the database is away. */
export function createRepeats(): SayRepeats {
  const counts = new Map<string, number>()

  function sayCount(kind: string, more: (count: number) => void): void {
    const count = counts.get(kind) ?? 0
    counts.delete(kind)
    if (count === 0) return
    more(count)
    begin(kind, more)
  }

  function begin(kind: string, more: (count: number) => void): void {
    counts.set(kind, 0)
    setTimeout(sayCount, pause, kind, more).unref()
  }

  return function say(kind, first, more) {
    const count = counts.get(kind)
    if (count !== undefined) counts.set(kind, count + 1)
    else {
      first()
      begin(kind, more)
    }
  }
}

/** What sets errors of one kind apart from others; nothing that a request could choose. */
export function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error
  return 'code' in error && typeof error.code === 'string'
    ? `${error.name} ${error.code}`
    : error.name
}
