import { ApiError } from '../http/failures.ts'

/** The versions that an `If-Match` header asks for. */
export type Precondition = 'any version' | number[]

/**
 * An entity tag (RFC 9110, 8.8.3) as we give it, and as it may come back: proxies that compress make
 * it weak, or put their method behind the version.
 */
const entityTag = /^(?:W\/)?"((?:[\x21\x23-\x7e\x80-\xff])*)"$/
const taskVersion = /^(\d{1,15})(?:-{1,2}[a-z]+)?$/

/** @throws ApiError 422 if it is not what RFC 9110, 13.1.1 says */
export function readIfMatch(header: string | undefined): Precondition | undefined {
  if (header === undefined) return undefined
  if (header.trim() === '*') return 'any version'
  return entityTags(header, 'If-Match').flatMap((tag) => {
    const [, version] = taskVersion.exec(tag) ?? []
    return version === undefined ? [] : [Number(version)]
  })
}

/** Whether the client already has what carries this tag (RFC 9110, 13.1.2: weak comparison). */
export function isKnown(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false
  if (header.trim() === '*') return true
  return entityTags(header, 'If-None-Match').some(
    (known) => known === tag || known.replace(/-{1,2}[a-z]+$/, '') === tag,
  )
}

function entityTags(header: string, field: string): string[] {
  // A list may have empty elements (RFC 9110, 5.6.1.2), but not only those.
  const elements = header.match(/(?:[^,"]|"[^"]*")+/g)?.map((text) => text.trim()) ?? []
  const given = elements.filter((text) => text !== '')
  const tags = given.map((text) => entityTag.exec(text)?.[1])
  if (tags.length === 0 || tags.includes(undefined))
    throw new ApiError('validation_failed', {
      errors: [{ field, detail: 'must be * or entity tags in quotes, such as "7"' }],
    })
  return tags.filter((tag) => tag !== undefined)
}
