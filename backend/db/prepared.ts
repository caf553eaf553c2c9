/** As many as the statements of this program that do not depend on what a request names, and more. */
const mostPrepared = 200

/**
 * Says of a statement whether to prepare it under a name. The driver and PostgreSQL keep each text
 * that is, on every connection, for as long as the connection lasts; so only the first texts are.
 * The others cost PostgreSQL their planning each time.
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
