import { ApiError } from '../http/failures.ts'
import { readPlace, type Place } from './list/place.ts'

/**
 * How far a copy has come: it has seen all changes up to `seen`, and knows of all deletions up to
 * `complete`, which is further while a first copy is still being read.
 */
type Progress = { epoch: string; seen: number; complete: number }

/** A token says how far its user has come. The digest keeps it from being used for another's list. */
export function writeSyncToken(progress: Progress, owner: string): string {
  const { epoch, seen, complete } = progress
  const parts = [seen, complete, digest(owner, progress)]
  return (epoch === '' ? parts : [epoch, ...parts]).join('.')
}

/** @throws ApiError 422 if this user was not given it */
export function readSyncToken(token: string, owner: string): Progress {
  const [, epoch = '', seen, complete, check] =
    /^(?:([0-9a-f]{8})\.)?(\d{1,15})\.(\d{1,15})\.([\w-]+)$/.exec(token) ?? []
  const progress = { epoch, seen: Number(seen), complete: Number(complete) }
  if (check === undefined || check !== digest(owner, progress))
    throw new ApiError('validation_failed', {
      errors: [{ field: 'since', detail: 'must be a Sync-Token that this user was given' }],
    })
  return progress
}

/** What a client has seen. Only one that has an event's id has been told of reminders. */
export type Seen = Place & { isEvent: boolean }

/**
 * Where the stream begins for a client that has a Sync-Token, or an event's id, or 0 for nothing. A text
 * that is none of them is beyond all changes: nothing can be resumed from there.
 */
export function readPosition(text: string, owner: string): Seen {
  const place = readPlace(text)
  if (place !== undefined) return { ...place, isEvent: place.counter > 0 }
  try {
    const { epoch, seen } = readSyncToken(text, owner)
    return { epoch, counter: seen, isEvent: false }
  } catch {
    return { epoch: '', counter: Infinity, isEvent: false }
  }
}

function digest(owner: string, { epoch, seen, complete }: Progress): string {
  const text = JSON.stringify([owner, seen, complete, ...(epoch === '' ? [] : [epoch])])
  return new Bun.CryptoHasher('sha256').update(text).digest('base64url').slice(0, 12)
}
