import { Elysia } from 'elysia'

const wellFormed = /^[A-Za-z0-9._-]{1,128}$/

/** Gives every response an `X-Request-Id`: the client's own if it is well-formed. */
export function requestId() {
  return new Elysia({ name: 'request-id' }).onRequest(function identifyRequest({ request, set }) {
    const given = request.headers.get('x-request-id')
    set.headers['x-request-id'] =
      given !== null && wellFormed.test(given) ? given : crypto.randomUUID()
  })
}
