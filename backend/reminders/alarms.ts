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
  /** How long to wait at least, in milliseconds. */
  least: number
}

const retryAfter = 1_000 // ms, if the database is away, or somebody holds what is due
const longestTimer = 2 ** 31 - 1 // ms

/** A timer to the next reminder of each user who has a stream open here, and none for anybody else. */
export function createAlarms({ fire, onFired, onTrouble }: AlarmOptions) {
  const alarms = new Map<string, Alarm>()

  async function ring(owner: string, alarm: Alarm): Promise<void> {
    alarm.isRinging = true
    try {
      const isAnything = await fire(owner)
      alarm.isRinging = false
      alarm.least = isAnything ? 0 : retryAfter
      onFired(owner, isAnything)
    } catch (error) {
      alarm.isRinging = false
      if (alarms.get(owner) === alarm) set(owner, retryAfter)
      onTrouble(error)
    }
  }

  /** @param wait until the user's next reminder is due, in milliseconds; null if none waits */
  function set(owner: string, wait: number | null): void {
    if (wait === null) return drop(owner)
    const alarm = alarms.get(owner) ?? { isRinging: false, least: 0 }
    alarms.set(owner, alarm)
    clearTimeout(alarm.timer)
    // It is set anew once it has rung.
    if (alarm.isRinging) return
    if (wait > 0) alarm.least = 0
    const soon = Math.min(Math.max(wait, alarm.least), longestTimer)
    alarm.timer = setTimeout(() => void ring(owner, alarm), soon)
  }

  function drop(owner: string): void {
    clearTimeout(alarms.get(owner)?.timer)
    alarms.delete(owner)
  }

  return { set, drop }
}
