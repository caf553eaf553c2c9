const wellFormed = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-[\da-f]{2}(-.*)?$/

/**
 * The id of the trace that a request belongs to, by its `traceparent` (W3C Trace Context, 3.2). Absent
 * if there is none or it is malformed. Versions to come may add to it.
 */
export function traceIdOf({ headers }: Request): string | undefined {
  const header = headers.get('traceparent')
  if (header === null) return undefined
  const [, version, traceId, parentId, more] = wellFormed.exec(header) ?? []
  if (traceId === undefined || version === 'ff' || (version === '00' && more !== undefined))
    return undefined
  return /^0+$/.test(traceId) || /^0+$/.test(parentId!) ? undefined : traceId
}
