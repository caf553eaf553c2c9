import type { ChangeFeed } from './changes.ts'

const announceAfter = 5 // ms

/**
 * Tells the other processes of changes, all those of a moment at once. Not in the write's own
 * statement: PostgreSQL commits transactions with a notification one after the other, which halved the
 * rate of writes. If a process dies in that moment, the others find the changes when they look.
 */
export function createAnnouncements(changes: ChangeFeed, onTrouble: (error: unknown) => void) {
  const unannounced = new Set<string>()
  function announceAll(): void {
    const owners = [...unannounced]
    unannounced.clear()
    changes.announce(owners).catch(onTrouble)
  }
  return function announce(owner: string): void {
    if (unannounced.size === 0) setTimeout(announceAll, announceAfter)
    unannounced.add(owner)
  }
}
