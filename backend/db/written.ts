/** JSON that PostgreSQL has written, and how many bytes it has in UTF-8. */
export type Written = { json: string; bytes: number }

/** The JSON was not fetched, because there was no room for so many bytes. */
export class NeedsRoom extends Error {
  override readonly name = 'NeedsRoom'
  readonly bytes: number

  constructor(bytes: number) {
    super(`An answer of ${bytes} bytes needs room`)
    this.bytes = bytes
  }
}

/** What PostgreSQL answers about JSON that may be too large: if it is, only its size. */
export type Unsent<Answer extends Written> = Omit<Answer, 'json'> & { json: string | null }

/** @throws NeedsRoom if it was not fetched */
export function unlessTooLarge<Found extends { json: string | null; bytes: number }>(
  found: Found,
): Found & { json: string } {
  const { json, bytes } = found
  if (json === null) throw new NeedsRoom(bytes)
  return { ...found, json }
}

/** For JSON that no client is waiting for. */
export const anySize = Number.MAX_SAFE_INTEGER // bytes
