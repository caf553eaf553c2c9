import { expect, test } from 'bun:test'
import { createLine, type LineOptions } from '../../db/line.ts'
import { DatabaseUnavailable } from '../../db/failures.ts'
import { QueueFull, WaitedForOneself, WaitedTooLong } from '../../db/waiting.ts'
import { pass, settled, stopTheClock } from '../support/clock.ts'

stopTheClock()

/** A line whose statements end when the test says so. */
function startLine(options: Partial<LineOptions<string, string>> = {}) {
  const statements: {
    requests: readonly string[]
    end: () => void
    fail: (error: Error) => void
  }[] = []
  const ask = createLine<string, string>({
    width: 1,
    most: 64,
    deadline: 5_000,
    longest: 10,
    async send(requests) {
      const { promise, resolve, reject } = Promise.withResolvers<string[]>()
      const end = () => resolve(requests.map((request) => `${request}!`))
      statements.push({ requests, end, fail: reject })
      return promise
    },
    ...options,
  })
  return { ask, statements, sent: () => statements.map(({ requests }) => requests) }
}

test('a request that finds the line free is sent at once, and what comes meanwhile goes together', async () => {
  const { ask, statements, sent } = startLine()
  const first = ask('alice', 'a1')
  const others = [ask('bob', 'b1'), ask('carol', 'c1'), ask('alice', 'a2')]
  expect(sent()).toEqual([['a1']])
  statements[0]!.end()
  expect(await first).toBe('a1!')
  expect(sent()).toEqual([['a1'], ['b1', 'c1', 'a2']])
  statements[1]!.end()
  expect(await Promise.all(others)).toEqual(['b1!', 'c1!', 'a2!'])
})

test('users take turns: one who asks often comes after those who ask once', async () => {
  const { ask, statements, sent } = startLine({ most: 3 })
  void ask('greedy', 'g0')
  for (const number of [1, 2, 3, 4]) void ask('greedy', `g${number}`)
  void ask('alice', 'a1')
  void ask('bob', 'b1')
  statements[0]!.end()
  await settled()
  expect(sent()[1]).toEqual(['g1', 'a1', 'b1'])
  statements[1]!.end()
  await settled()
  expect(sent()[2]).toEqual(['g2', 'g3', 'g4'])
  statements[2]!.end()
})

test('a row is in a statement only once, and a user in one statement at a time', async () => {
  const { ask, statements, sent } = startLine({ width: 2, rowOf: (row) => row.slice(1) })
  const all = [ask('alice', 'x1'), ask('alice', 'y1'), ask('alice', 'z2'), ask('bob', 'w3')]
  // Alice's are under way; Bob's are not.
  expect(sent()).toEqual([['x1'], ['w3']])
  statements[0]!.end()
  statements[1]!.end()
  await settled()
  expect(sent()[2]).toEqual(['y1', 'z2'])
  statements[2]!.end()
  await Promise.all(all)
  void ask('alice', 'first')
  const twice = [ask('alice', 'a7'), ask('alice', 'b7'), ask('alice', 'c8')]
  statements[3]!.end()
  await settled()
  expect(sent()[4]).toEqual(['a7'])
  statements[4]!.end()
  await settled()
  expect(sent()[5]).toEqual(['b7', 'c8'])
  statements[5]!.end()
  await Promise.all(twice)
})

test('a statement that fails ends its own requests and no others', async () => {
  const { ask, statements } = startLine()
  const first = ask('alice', 'a1')
  const second = ask('bob', 'b1')
  statements[0]!.fail(new DatabaseUnavailable('gone'))
  expect(first).rejects.toThrow('gone')
  await first.catch(() => {})
  statements[1]!.end()
  expect(await second).toBe('b1!')
})

test('a request behind statements that do not end is given up at the deadline and never sent', async () => {
  const { ask, statements, sent } = startLine({ deadline: 50 })
  void ask('alice', 'a1')
  const late = ask('bob', 'b1').catch((error: unknown) => error)
  pass(100)
  expect(await late).toBeInstanceOf(WaitedTooLong)
  statements[0]!.end()
  await settled()
  expect(sent()).toEqual([['a1']])
})

test('a user who keeps being answered and still has too many waiting is waiting for themselves', async () => {
  const { ask, statements } = startLine({ deadline: 200, most: 1 })
  const asked = [ask('greedy', 'g1'), ask('greedy', 'g2'), ask('greedy', 'g3'), ask('modest', 'm1')]
  const [, , last, others] = asked.map(async (answer) => answer.catch((error: unknown) => error))
  pass(120) // of the deadline
  statements[0]!.end()
  await settled()
  pass(100)
  expect(await last).toBeInstanceOf(WaitedForOneself)
  expect(await others).toBeInstanceOf(WaitedTooLong)
  expect(statements).toHaveLength(2)
  statements[1]!.end()
  await asked[1]
})

test('a statement that would have no time left is not sent', async () => {
  const { ask, statements } = startLine({ deadline: 400 })
  void ask('alice', 'a1')
  const late = ask('bob', 'b1', performance.now() - 390).catch((error: unknown) => error)
  statements[0]!.end()
  expect(await late).toBeInstanceOf(WaitedTooLong)
  expect(statements).toHaveLength(1)
})

test('a statement has the time that is left to the oldest of its requests', async () => {
  const times: number[] = []
  const running = Promise.withResolvers<string[]>()
  const ask = createLine<string, string>({
    width: 1,
    most: 2,
    longest: 10,
    deadline: 5_000,
    async send(_, left) {
      times.push(left)
      return running.promise
    },
  })
  void ask('alice', 'a1')
  const second = ask('alice', 'a2')
  pass(20)
  running.resolve(['', ''])
  await second
  expect(times).toEqual([5_000, 4_980])
})

test('one user has no more requests waiting than allowed, and others still get in', async () => {
  const { ask, statements } = startLine({ longest: 2 })
  const asked = ['g0', 'g1', 'g2'].map(async (request) => ask('greedy', request))
  expect(await ask('greedy', 'g3').catch((error: unknown) => error)).toBeInstanceOf(QueueFull)
  const other = ask('alice', 'a1')
  for (const request of asked) {
    statements.at(-1)!.end()
    await request
  }
  expect(await other).toBe('a1!')
})
