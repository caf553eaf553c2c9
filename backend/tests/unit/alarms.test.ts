import { expect, test } from 'bun:test'
import { createAlarms } from '../../reminders/alarms.ts'
import { pass, settled, stopTheClock } from '../support/clock.ts'

stopTheClock()

/** Alarms, what rang so far, and how many milliseconds of it were let pass. */
function startAlarms(fire: () => Promise<boolean>) {
  const events: string[] = []
  const alarms = createAlarms({
    async fire() {
      events.push('rings')
      return fire()
    },
    onFired: (_, isAnything) => events.push(isAnything ? 'fired' : 'nothing'),
    onTrouble: (error) => events.push(String(error)),
  })
  /** What happened while this much time passed. */
  async function during(milliseconds: number): Promise<string[]> {
    pass(milliseconds)
    await settled()
    return events.splice(0)
  }
  return { ...alarms, during }
}

test('an alarm rings at its time, and not again until it is set', async () => {
  const { set, during } = startAlarms(async () => true)
  set('alice', 500)
  expect(await during(499)).toEqual([])
  expect(await during(1)).toEqual(['rings', 'fired'])
  expect(await during(60_000)).toEqual([])
})

test('the last time that was set counts, and none if nothing waits or nobody listens', async () => {
  const { set, drop, during } = startAlarms(async () => true)
  set('alice', 100)
  set('alice', 300)
  set('bob', 100)
  set('bob', null)
  set('carol', 100)
  drop('carol')
  expect(await during(299)).toEqual([])
  expect(await during(1)).toEqual(['rings', 'fired'])
})

test('what was read earlier and comes later changes nothing', async () => {
  const { set, during } = startAlarms(async () => true)
  const at = (counter: number, epoch = 'now') => ({ epoch, counter })
  set('alice', 300, at(7))
  set('alice', null, at(6))
  set('alice', 100, at(6))
  expect(await during(299)).toEqual([])
  expect(await during(1)).toEqual(['rings', 'fired'])
  set('alice', null, at(8))
  set('alice', 100, at(7))
  expect(await during(1_000)).toEqual([])
  set('alice', 100, at(1, 'restored'))
  expect(await during(100)).toEqual(['rings', 'fired'])
})

test('what is due and not fired is tried again after a second; what comes later is not kept waiting', async () => {
  const { set, during } = startAlarms(async () => false)
  set('alice', 0)
  expect(await during(1)).toEqual(['rings', 'nothing'])
  set('alice', 0)
  expect(await during(999)).toEqual([])
  expect(await during(1)).toEqual(['rings', 'nothing'])
  set('alice', 100)
  expect(await during(100)).toEqual(['rings', 'nothing'])
})

test('a failure is told, and the alarm rings again after a second', async () => {
  const { set, during } = startAlarms(async () => Promise.reject(new Error('away')))
  set('alice', 0)
  expect(await during(1)).toEqual(['rings', 'Error: away'])
  expect(await during(999)).toEqual([])
  expect(await during(1)).toEqual(['rings', 'Error: away'])
})

test('what keeps failing is tried less and less often, to four times a minute, and anew after a success', async () => {
  let isAway = true
  const { set, during } = startAlarms(async () =>
    isAway ? Promise.reject(new Error('only reads')) : true,
  )
  const failed = ['rings', 'Error: only reads']
  set('alice', 0)
  expect(await during(1)).toEqual(failed)
  for (const seconds of [1, 2, 4, 8, 15, 15]) {
    // Whoever looks meanwhile finds it due, and changes nothing.
    set('alice', 0)
    expect(await during(seconds * 1_000 - 500)).toEqual([])
    set('alice', -1_000)
    expect(await during(499)).toEqual([])
    expect(await during(1)).toEqual(failed)
  }
  isAway = false
  expect(await during(15_000)).toEqual(['rings', 'fired'])
  isAway = true
  set('alice', 0)
  expect(await during(1)).toEqual(failed)
  expect(await during(1_000)).toEqual(failed)
})

test('an alarm that is set while it rings rings once', async () => {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const { set, during } = startAlarms(async () => promise)
  set('alice', 0)
  expect(await during(1)).toEqual(['rings'])
  set('alice', 0)
  expect(await during(5_000)).toEqual([])
  resolve(true)
  expect(await during(0)).toEqual(['fired'])
})

test('a reminder in a hundred years does not ring at once', async () => {
  const { set, during } = startAlarms(async () => true)
  set('alice', 100 * 365 * 24 * 3_600_000)
  expect(await during(60_000)).toEqual([])
})
