import { afterEach, beforeEach, jest } from 'bun:test'

/** In the tests of this file time stands still until a test lets it pass: a slow machine changes nothing. */
export function stopTheClock(): void {
  beforeEach(() => void jest.useFakeTimers())
  afterEach(() => void jest.useRealTimers())
}

/** Lets this many milliseconds pass. */
export function pass(milliseconds: number): void {
  jest.advanceTimersByTime(milliseconds)
}

/** Waits until everything has happened that needs no time to pass. */
export async function settled(): Promise<void> {
  for (let turns = 0; turns < 50; turns += 1) await Promise.resolve()
}
