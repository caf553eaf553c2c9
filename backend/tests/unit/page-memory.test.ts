import { heapStats } from 'bun:jsc'
import { expect, test } from 'bun:test'
import { createPageMemory } from '../../tasks/list/memory.ts'

const promised = 64 * 1024 * 1024 // bytes

function heap(): number {
  Bun.gc(true)
  return heapStats().heapSize // the texts' own memory included
}

function remember(count: number, content: string) {
  const pages = createPageMemory()
  for (let index = 0; index < count; index += 1) {
    const name = crypto.randomUUID().slice(0, 16)
    const asked = JSON.stringify(['user', { filter: { words: [name], timeZone: 'UTC' } }])
    // As it comes from a socket: a text of its own.
    const json = Buffer.from(`[${content}]`).toString()
    pages.set(asked, {
      name,
      page: {
        json,
        tag: `${index}-${name}`,
        total: 0,
        bytes: 0,
        place: { epoch: '', counter: index },
      },
    })
  }
  return pages
}

test.each([
  ['empty ones', 200_000, ''],
  ['small ones', 100_000, 'a'.repeat(100)],
  ['long ones', 2_000, '"a",'.repeat(20_000)],
  ['long ones that are not in Latin-1', 2_000, '"買",'.repeat(20_000)],
])('remembered pages take no more than is promised: %s', (_, count, content) => {
  remember(1_000, content) // The first run makes more than pages, such as compiled code.
  const before = heap()
  const pages = remember(count, content)
  expect(heap() - before).toBeLessThanOrEqual(promised)
  expect(pages.size).toBeGreaterThan(0)
})
