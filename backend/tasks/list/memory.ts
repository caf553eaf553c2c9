import { LRUCache } from 'lru-cache'
import type { Place } from './place.ts'

const mostBytes = 64 * 1024 * 1024
const ownWeight = 600 // bytes of an entry besides its texts: on Bun 1.4.5 some 400

export type TaskPage = {
  tag: string
  /** The JSON array that PostgreSQL wrote, and how many bytes it has in UTF-8. */
  json: string
  bytes: number
  /** How many tasks match the filter, on all pages. */
  total: number
  /** How far the list had come at the moment that is shown. */
  place: Place
  /** Where the next page starts. Absent on the last. */
  next?: string
}

/**
 * Remembers pages by what was asked for, 64 MB of them at most; what was not asked for the longest is
 * forgotten first. A character counts as two bytes, which it takes as soon as one of its text is not
 * in Latin-1.
 */
export function createPageMemory() {
  return new LRUCache<string, { name: string; page: TaskPage }>({
    maxSize: mostBytes,
    sizeCalculation({ name, page: { json, tag, next = '' } }, asked) {
      const characters = asked.length + name.length + json.length + tag.length + next.length
      return ownWeight + 2 * characters
    },
  })
}
