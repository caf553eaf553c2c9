const pause = 1_000 // ms
const mostTexts = 20 // in a second: what is in them may be anybody's choice

/**
 * Says whether a line may be logged: each at most once a second, and no more than 20 different ones.
 *
 * @param now a time in milliseconds that never goes back
 */
export function oncePerSecond(
  now: () => number = () => performance.now(),
): (text: string) => boolean {
  const said = new Map<string, number>()
  return function isDue(text) {
    const time = now()
    for (const [earlier, at] of said) {
      if (time - at < pause) break // they are in the order of their times
      said.delete(earlier)
    }
    if (said.has(text) || said.size >= mostTexts) return false
    said.set(text, time)
    return true
  }
}
