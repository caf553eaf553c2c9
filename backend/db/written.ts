/** JSON that PostgreSQL has written, and how many bytes it has in UTF-8. */
export type Written = { json: string; bytes: number }

/** The JSON has more bytes than there was room for, and so has not been fetched. */
export class NeedsRoom extends Error {
  override readonly name = 'NeedsRoom'
  readonly bytes: number

  constructor(bytes: number) {
    super(`An answer of ${bytes} bytes needs room`)
    this.bytes = bytes
  }
}

/** What PostgreSQL gives of JSON that may have too many bytes: then only how many. */
export type Unsent<Answer extends Written> = Omit<Answer, 'json'> & { json: string | null }

/** @throws NeedsRoom if it has not been fetched */
export function unlessTooLarge<Found extends { json: string | null; bytes: number }>(
  found: Found,
): Found & { json: string } {
  const { json, bytes } = found
  if (json === null) throw new NeedsRoom(bytes)
  return { ...found, json }
}

/** For JSON that no client is waiting for. */
export const anySize = Number.MAX_SAFE_INTEGER // bytes
