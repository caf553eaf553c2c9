import { ApiError } from '../http/failures.ts'

/** A client's name for a request that it may send again, and what tells this request from others. */
export type Idempotency = { key: string; request: string }

const keyShape = /^[\x21-\x7e]{1,255}$/

/**
 * Reads an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): 1 to 255 visible ASCII
 * characters, in quotes or without.
 *
 * @param request all that makes it this request: what is done, to which task, with which body
 * @throws ApiError 422
 */
export function readIdempotency(
  header: string | undefined,
  request: unknown[],
): Idempotency | undefined {
  if (header === undefined) return undefined
  const key = header.replace(/^"(.*)"$/, '$1')
  if (!keyShape.test(key))
    throw new ApiError('validation_failed', {
      errors: [
        {
          field: 'Idempotency-Key',
          detail: 'must be 1 to 255 visible ASCII characters, such as a UUID',
        },
      ],
    })
  return {
    key,
    request: new Bun.CryptoHasher('sha256').update(JSON.stringify(request)).digest('base64url'),
  }
}
