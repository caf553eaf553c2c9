import type { TaskBody } from './api.ts'
import { openEvents } from './events.ts'

const reconnectAfter = 50 // ms

/** Keeps a copy of a user's list by following events, from wherever it got to. */
export function followEvents({ token }: { token: string }, originOf: () => string) {
  const copy = new Map<number, TaskBody>()
  const problems: string[] = []
  let last = 0
  let isFollowing = true
  let cut: () => void = () => {}

  function take({ id, event, data }: { id: string; event: string; data: unknown }): void {
    if (Number(id) <= last) problems.push(`${event} ${id} after ${last}`)
    last = Number(id)
    if (event === 'resync') problems.push('resync')
    const task = data as TaskBody
    if (event === 'task.deleted') copy.delete(task.id)
    else if (event.startsWith('task.')) copy.set(task.id, task)
  }

  const following = (async () => {
    while (isFollowing) {
      try {
        const stream = await openEvents(
          `${originOf()}/api/tasks/events?since=0`,
          {
            authorization: `Bearer ${token}`,
            ...(last > 0 && { 'last-event-id': String(last) }),
          },
          take,
        )
        if (stream.status !== 200 && stream.status !== 503)
          problems.push(`the stream is answered with ${stream.status}`)
        cut = stream.close
        if (!isFollowing) cut() // it ended while this was opened
        await stream.ended
      } catch {
        // The server is away: somebody else will answer.
      }
      await Bun.sleep(reconnectAfter)
    }
  })()

  return {
    copy,
    problems,
    last: () => last,
    cutOff: () => cut(),
    async end() {
      isFollowing = false
      cut()
      await following
    },
  }
}
