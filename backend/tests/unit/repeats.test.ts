import { expect, test } from 'bun:test'
import { DatabaseUnavailable } from '../../db/failures.ts'
import { createRepeats, kindOf } from '../../http/repeats.ts'
import { pass, stopTheClock } from '../support/clock.ts'

stopTheClock()

function listen() {
  const say = createRepeats()
  const lines: string[] = []
  const happens = (kind: string) =>
    say(
      kind,
      () => lines.push(kind),
      (count) => lines.push(`${kind} ${count}`),
    )
  return { lines, happens }
}

test('the first of a kind is said at once, and the number of the others once a minute', () => {
  const { lines, happens } = listen()
  for (let times = 0; times < 1_000; times += 1) happens('away')
  happens('late')
  expect(lines).toEqual(['away', 'late'])
  pass(60_000)
  expect(lines).toEqual(['away', 'late', 'away 999'])
  happens('away')
  pass(59_999)
  expect(lines).toHaveLength(3)
  pass(1)
  expect(lines.slice(3)).toEqual(['away 1'])
})

test('a kind that has not come for a minute is new again', () => {
  const { lines, happens } = listen()
  happens('away')
  pass(60_000)
  expect(lines).toEqual(['away'])
  happens('away')
  expect(lines).toEqual(['away', 'away'])
})

test('a kind is the name and the code of an error, whatever its message is', () => {
  const kinds = [
    new DatabaseUnavailable('No answer within 4711 ms'),
    new DatabaseUnavailable('No answer within 4712 ms'),
    new DatabaseUnavailable('the role may not', '28000'),
  ].map(kindOf)
  expect(kinds).toEqual(['DatabaseUnavailable', 'DatabaseUnavailable', 'DatabaseUnavailable 28000'])
})
