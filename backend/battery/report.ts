/** What a run of the battery counted, and what it found wrong. */
export type Report = ReturnType<typeof createReport>

const mostKinds = 20

export function createReport(print: (line: string) => void) {
  const figures = new Map<string, number>()
  const violations: string[] = []

  function violationsByKind(): [example: string, count: number][] {
    const kinds = new Map<string, [string, number]>()
    for (const violation of violations) {
      const kind = violation.replaceAll(/\d+/g, '0')
      const [example, count] = kinds.get(kind) ?? [violation, 0]
      kinds.set(kind, [example, count + 1])
    }
    return [...kinds.values()]
  }

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
    /** Ends the report: the figures, and the first violation of each kind with how many there were. */
    summarize(): void {
      for (const [figure, count] of figures) print(`${figure}: ${count.toLocaleString('en')}`)
      print(`violations: ${violations.length}`)
      for (const [example, count] of violationsByKind().slice(0, mostKinds))
        print(`${count} × ${example}`)
    },
  }
}
