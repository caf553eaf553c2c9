import { describe, expect, test } from 'bun:test'
import type { QueueOptions } from '../../db/queue.ts'
import { createTurns } from '../../db/turns.ts'
import { QueueFull, WaitedForOneself, WaitedTooLong } from '../../db/waiting.ts'
import { pass, settled, stopTheClock } from '../support/clock.ts'

stopTheClock()

/** Work that goes on until it is told to end, and says when it begins. */
function createWork(options: Partial<QueueOptions> = {}) {
  const turns = createTurns({
    places: 2,
    perUser: 1,
    longestQueue: 10,
    deadline: 10_000,
    ...options,
  })
  const begun: string[] = []
  const ends = new Map<string, () => void>()
  return {
    turns,
    begun,
    start: async (name: string): Promise<string> =>
      turns.run(name[0]!, async () => {
        begun.push(name)
        const { promise, resolve } = Promise.withResolvers<void>()
        ends.set(name, resolve)
        await promise
        return name
      }),
    end: async (...names: string[]): Promise<void> => {
      for (const name of names) {
        ends.get(name)!()
        await settled()
      }
    },
  }
}

describe('turns', () => {
  test('a user holds no more than their share and leaves the rest to others', async () => {
    const { start, end, begun } = createWork({ places: 4, perUser: 2 })
    const all = ['a1', 'a2', 'a3', 'b1'].map(start)
    expect(begun).toEqual(['a1', 'a2', 'b1'])
    await end('a1')
    expect(begun).toEqual(['a1', 'a2', 'b1', 'a3'])
    await end('a2', 'b1', 'a3')
    expect(await Promise.all(all)).toEqual(['a1', 'a2', 'a3', 'b1'])
  })

  test('users who wait take turns, each in the order of arrival', async () => {
    const { start, end, begun } = createWork({ places: 1 })
    const all = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'].map(start)
    for (let index = 0; index < all.length; index += 1) await end(begun[index]!)
    await Promise.all(all)
    expect(begun).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4'])
  })

  test('a free place that nobody waiting may take goes to the next who comes', async () => {
    const { start, end, begun } = createWork()
    const all = ['a1', 'a2', 'b1'].map(start)
    expect(begun).toEqual(['a1', 'b1'])
    await end('a1', 'b1', 'a2')
    await Promise.all(all)
  })

  test('one more than may wait is refused, and nobody else is', async () => {
    const { start, end, begun } = createWork({ places: 1, longestQueue: 2 })
    const all = ['a1', 'a2', 'a3'].map(start)
    expect(start('a4')).rejects.toThrow(QueueFull)
    const other = start('b1')
    await end('a1', 'b1', 'a2', 'a3')
    await Promise.all([...all, other])
    expect(begun).toEqual(['a1', 'b1', 'a2', 'a3'])
  })

  test('what waits past the deadline is never done, and the next goes ahead', async () => {
    const { start, end, begun } = createWork({ places: 1, deadline: 30 })
    const first = start('a1')
    const late = start('b1')
    pass(30)
    await expect(late).rejects.toThrow(WaitedTooLong)
    const third = start('b2')
    await end('a1', 'b2')
    await Promise.all([first, third])
    expect(begun).toEqual(['a1', 'b2'])
  })

  test('a user who holds all that one user may is waiting for themselves; others are not', async () => {
    const { start, end, begun } = createWork({ places: 2, perUser: 1, deadline: 30 })
    const held = [start('a1'), start('b1')]
    const waiting = Promise.allSettled([start('a2'), start('c1')])
    pass(30)
    const [own, others] = await waiting
    expect(own).toMatchObject({ reason: expect.any(WaitedForOneself) })
    expect(others).toMatchObject({ reason: expect.any(WaitedTooLong) })
    await end('a1', 'b1')
    await Promise.all(held)
    expect(begun).toEqual(['a1', 'b1'])
  })

  test('a user who has just had a turn is waiting for themselves', async () => {
    const { start, end, begun } = createWork({ places: 1, perUser: 1, deadline: 200 })
    const others = start('b1')
    const [first, second] = [start('a1'), start('a2')]
    const third = start('c1')
    pass(120) // of the deadline
    await end('b1', 'a1') // one of c is next
    pass(80)
    await expect(second).rejects.toThrow(WaitedForOneself)
    await end('c1')
    await Promise.all([others, first, third])
    expect(begun).toEqual(['b1', 'a1', 'c1'])
  })

  test('nothing begins without time left for it', async () => {
    const { turns, start, end } = createWork({ places: 1, deadline: 400 })
    const first = start('a1')
    const waiting = turns.run('b', async (left) => left)
    pass(380)
    await expect(waiting).rejects.toThrow(WaitedTooLong)
    await end('a1')
    await first
  })

  test('the deadline runs while a request waits', async () => {
    const { turns, start, end } = createWork({ places: 1, deadline: 10_000 })
    const first = start('a1')
    const left = turns.run('b', async (milliseconds) => milliseconds)
    pass(20)
    await end('a1')
    expect(await left).toBe(9_980)
    await first
    expect(await turns.run('b', async (milliseconds) => milliseconds)).toBe(10_000)
  })

  test('gives its place back if the work fails', async () => {
    const { turns, start, end } = createWork({ places: 1 })
    const failed = turns.run('a', async () => {
      throw new Error('no')
    })
    expect(failed).rejects.toThrow('no')
    const next = start('b1')
    await settled()
    await end('b1')
    expect(await next).toBe('b1')
  })

  test('places are taken several at a time, and given back one after the other', async () => {
    const { turns } = createWork({ places: 10, perUser: 6 })
    const first = await turns.take('a', 5)
    const order: string[] = []
    const small = turns.take('a', 2).then((hold) => (order.push('small'), hold))
    const other = turns.take('b', 6).then((hold) => (order.push('other'), hold))
    await settled()
    expect(order).toEqual([])
    first.keep(4)
    await settled()
    expect(order).toEqual(['other'])
    first.release()
    first.release()
    await settled()
    expect(order).toEqual(['other', 'small'])
    for (const hold of await Promise.all([small, other])) hold.release()
    expect((await turns.take('c', 1_000)).left).toBe(10_000)
  })

  test('a user who may take no place keeps nobody else waiting', async () => {
    const { turns } = createWork({ places: 10, perUser: 6 })
    const [, other] = await Promise.all([turns.take('a', 3), turns.take('b', 6)])
    const fitting = turns.take('a', 2)
    const tooMuch = turns.take('a', 4)
    other.keep(4)
    const second = await fitting
    await turns.take('c', 1) // not behind what waits for its own user
    second.release()
    other.release()
    await turns.take('c', 1)
    expect(await Promise.race([tooMuch, 'waits'])).toBe('waits')
  })

  test.each([
    [1, 1],
    [5, 2],
    [10, 5],
  ])(
    'at random, %i places are never exceeded, and all who come are served',
    async (places, perUser) => {
      const turns = createTurns({ places, perUser, longestQueue: 1_000, deadline: 10_000 })
      const held = new Map<string, number>()
      let all = 0
      await Promise.all(
        Array.from({ length: 500 }, async (_, index) => {
          const user = `user ${index % 7}`
          await turns.run(user, async () => {
            held.set(user, (held.get(user) ?? 0) + 1)
            all += 1
            expect(all).toBeLessThanOrEqual(places)
            expect(held.get(user)).toBeLessThanOrEqual(perUser)
            for (let ticks = index % 3; ticks > 0; ticks -= 1) await settled()
            all -= 1
            held.set(user, held.get(user)! - 1)
          })
        }),
      )
      expect(all).toBe(0)
    },
  )
})
