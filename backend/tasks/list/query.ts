import { ApiError } from '../../http/failures.ts'

/** Front ends send them in any case. */
const caseless = ['status', 'priority', 'order']

/** Ways to ask for a page that a list in this shape does not know: rows move between its pages. */
const pagedByNumber = ['offset', 'skip', 'page']

/**
 * @param cursorsFrom where cursors are found, and what else to do
 * @throws ApiError 422 if a page is asked for by its number
 */
export function refusePageNumbers(
  isGiven: (parameter: string) => boolean,
  cursorsFrom: string,
): void {
  const refused = pagedByNumber.filter(isGiven)
  if (refused.length === 0) return
  const detail = `must not be sent: page with cursor, from ${cursorsFrom}`
  throw new ApiError('validation_failed', {
    errors: refused.map((field) => ({ field, detail })),
  })
}

/**
 * Brings the query of a list into the form that its schema describes, in place: what is empty is not
 * there, as forms send what was left blank.
 *
 * @param query what the framework has read: of a repeated parameter the last
 * @param given the parameters as they were sent
 * @throws ApiError 422 if it asks for a page by its number
 */
export function tidyQuery(query: Record<string, unknown>, given: URLSearchParams): void {
  refusePageNumbers(
    (name) => given.getAll(name).some((value) => value !== ''),
    'the Link header, or use /compat',
  )
  for (const [name, value] of Object.entries(query)) {
    if (value === '') delete query[name]
    else if (typeof value === 'string' && caseless.includes(name)) query[name] = value.toLowerCase()
  }
  // The framework's own lists would split a tag at its commas.
  const tags = given.getAll('tag').filter((tag) => tag !== '')
  if (tags.length > 0) query['tag'] = tags
}
