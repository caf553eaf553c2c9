import { expect, test } from 'bun:test'
import { oncePerSecond } from '../../http/once-per-second.ts'

test('a line may be logged again when a second has passed', () => {
  let time = 0
  const isDue = oncePerSecond(() => time)
  expect([isDue('a'), isDue('a'), isDue('b')]).toEqual([true, false, true])
  time = 999
  expect([isDue('a'), isDue('b')]).toEqual([false, false])
  time = 1_000
  expect([isDue('a'), isDue('a')]).toEqual([true, false])
})

test('there are at most 20 different lines a second, whatever strangers send', () => {
  let time = 0
  const isDue = oncePerSecond(() => time)
  const lines = () => Array.from({ length: 1_000 }, (_, n) => `line ${n}`).filter(isDue)
  expect(lines()).toHaveLength(20)
  time += 500
  expect(lines()).toEqual([])
  time += 500
  expect(lines()).toHaveLength(20)
})
