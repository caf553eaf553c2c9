/** Asks until the answer is neither false nor undefined, and gives it. */
export async function eventually<Answer>(
  what: string,
  ask: () => Promise<Answer | false | undefined>,
  patience = 10_000, // ms
): Promise<Answer> {
  const giveUpAt = performance.now() + patience
  for (;;) {
    const answer = await ask()
    if (answer !== false && answer !== undefined) return answer
    if (performance.now() > giveUpAt) throw new Error(`Not within ${patience} ms: ${what}`)
    await Bun.sleep(20)
  }
}
