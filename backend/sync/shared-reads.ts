import type { ChangeFeed, News } from './changes.ts'

/**
 * One read for all streams of a user that are nudged together. A stream that comes later reads anew:
 * what it was told of may have been committed after this read began.
 */
export function createSharedReads(changes: ChangeFeed) {
  const reads = new Map<string, Promise<News>>()
  return async function readTogether(
    owner: string,
    after: number,
    toldAfter: number,
  ): Promise<News> {
    const key = `${after} ${toldAfter} ${owner}`
    const begun = reads.get(key)
    if (begun) return begun
    const read = changes.newsAfter(owner, after, toldAfter)
    reads.set(key, read)
    queueMicrotask(() => reads.delete(key))
    return read
  }
}
