/** What a run of the battery counted, and what it found wrong. */
export type Report = ReturnType<typeof createReport>

export function createReport(print: (line: string) => void) {
  const figures = new Map<string, number>()
  const violations: string[] = []
  return {
    /** Adds to a figure, such as `requests answered`. Counting 0 makes it appear. */
    count(figure: string, by = 1): void {
      figures.set(figure, (figures.get(figure) ?? 0) + by)
    },
    /** Tells of something that must never happen, at once. One of them makes the run fail. */
    violation(what: string): void {
      violations.push(what)
      print(`VIOLATION: ${what}`)
    },
    progress: print,
    violations: violations as readonly string[],
    figures: figures as ReadonlyMap<string, number>,
  }
}
