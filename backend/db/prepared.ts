/** More than this program has statements that do not depend on the request. */
const mostPrepared = 200

/**
 * Says whether to prepare a statement under a name. The driver and PostgreSQL keep every prepared text, on
 * every connection, for as long as the connection lasts; so only the first texts are prepared. The others
 * are planned anew each time.
 */
export function createPrepared(most = mostPrepared): (sql: string) => boolean {
  const texts = new Set<string>()
  return function isPrepared(sql) {
    if (texts.has(sql)) return true
    if (texts.size >= most) return false
    texts.add(sql)
    return true
  }
}
