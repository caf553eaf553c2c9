import type { Context } from 'elysia'

/**
 * JSON that PostgreSQL has written, sent on as it is. To clients it is what its type says.
 *
 * It takes the headers and the status that hooks have set along. What is left in `set` Elysia puts
 * into a copy of the Response, and that costs more than all hooks together.
 */
// oxlint-disable-next-line no-unnecessary-type-parameters -- a handler's type is what Eden clients get: each says what its JSON is
export function jsonResponse<Body>(
  set: Context['set'],
  json: string | ReadableStream<Uint8Array>,
  status = 200,
): Body {
  // oxlint-disable-next-line no-unsafe-type-assertion -- its type allows numbers, which are written as the same text
  const headers = set.headers as Record<string, string>
  headers['content-type'] = 'application/json'
  const response: unknown = new Response(json, { status, headers })
  set.headers = {}
  // oxlint-disable-next-line no-unsafe-type-assertion -- as a Response it would become part of the clients' types (eden.test.ts)
  return response as Body
}

/** The client already has what it asked for. */
export function notModified(set: Context['set']): undefined {
  set.status = 304
}
