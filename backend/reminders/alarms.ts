import type { Place } from '../tasks/list/place.ts'

export type AlarmOptions = {
  /** Fires what is due, and says whether there was anything. */
  fire: (owner: string) => Promise<boolean>
  /** The user's events are to be read now, which also says when the next reminder is due. */
  onFired: (owner: string, isAnything: boolean) => void
  onTrouble: (error: unknown) => void
}

type Alarm = {
  timer?: Timer
  isRinging: boolean
  /** The earliest time at which it rings, on `performance.now()`. */
  restsUntil: number
  /** How many times in a row it has failed. */
  failures: number
  /** Where the list was when it was set. */
  place?: Place
}

const retryAfter = 1_000 // ms, if the database is away, or somebody holds what is due
const longestRetry = 15_000 // ms, as long as between two looks: what was away may be back
const longestTimer = 2 ** 31 - 1 // ms

/** A timer to the next reminder of each user who has a stream open here, and none for anybody else. */
export function createAlarms({ fire, onFired, onTrouble }: AlarmOptions) {
  const alarms = new Map<string, Alarm>()

  async function ring(owner: string, alarm: Alarm): Promise<void> {
    alarm.isRinging = true
    try {
      const isAnything = await fire(owner)
      alarm.isRinging = false
      alarm.failures = 0
      alarm.restsUntil = isAnything ? 0 : performance.now() + retryAfter
      onFired(owner, isAnything)
    } catch (error) {
      alarm.isRinging = false
      alarm.restsUntil =
        performance.now() + Math.min(retryAfter * 2 ** alarm.failures, longestRetry)
      alarm.failures += 1
      if (alarms.get(owner) === alarm) set(owner, 0)
      onTrouble(error)
    }
  }

  /**
   * @param wait until the user's next reminder is due, in milliseconds; null if none waits
   * @param place of the list when that was read: an older read that ends later changes nothing
   */
  function set(owner: string, wait: number | null, place?: Place): void {
    const alarm = alarms.get(owner) ?? { isRinging: false, restsUntil: 0, failures: 0 }
    if (place) {
      if (alarm.place && isBefore(place, alarm.place)) return
      alarm.place = place
    }
    alarms.set(owner, alarm)
    clearTimeout(alarm.timer)
    // What failed is no longer there.
    if (wait === null || wait > 0) alarm.restsUntil = 0
    // It is set anew once it has rung.
    if (wait === null || alarm.isRinging) return
    const soon = Math.min(Math.max(0, wait, alarm.restsUntil - performance.now()), longestTimer)
    alarm.timer = setTimeout(() => void ring(owner, alarm), soon)
  }

  function drop(owner: string): void {
    clearTimeout(alarms.get(owner)?.timer)
    alarms.delete(owner)
  }

  return { set, drop }
}

function isBefore(one: Place, other: Place): boolean {
  return one.epoch === other.epoch && one.counter < other.counter
}
