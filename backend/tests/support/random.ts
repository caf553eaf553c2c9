/** Draws whole numbers from 0 up to a limit, the same ones from the same seed. */
export type Random = (limit: number) => number

/** mulberry32: small, and good enough to choose what is done next. */
export function createRandom(seed: number): Random {
  let state = seed
  return function below(limit) {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }
}
