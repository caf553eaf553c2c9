import { describe, expect, test } from 'bun:test'
import { gzipSync } from 'node:zlib'
import { newUser } from '../../support/api.ts'
import { bearer, createProbe } from '../../support/probe.ts'
import { bytesOf } from '../../support/wire.ts'

const probe = await createProbe()
const json = '{"title":"x"}'
const target = '/api/tasks'
const chunked = { 'transfer-encoding': 'chunked' }
const lastChunk = Buffer.from('0\r\n\r\n')
const asChunk = (text: string | Uint8Array) =>
  Buffer.concat([
    Buffer.from(`${text.length.toString(16)}\r\n`),
    Buffer.from(text),
    Buffer.from('\r\n'),
  ])

/** The bytes of a creation whose framing is given by hand. */
function creation(
  token: string,
  framing: Record<string, string>,
  body: string | Uint8Array,
): Buffer {
  const headers = { ...bearer({ id: '', token }), 'content-type': 'application/json', ...framing }
  return Buffer.concat([bytesOf({ method: 'POST', target, headers }), Buffer.from(body)])
}

const contentTypes: [string, Record<string, string>, string | Uint8Array, number][] = [
  ['multipart without a boundary', { 'content-type': 'multipart/form-data' }, '--x--', 415],
  ['application/json5', { 'content-type': 'application/json5' }, json, 415],
  ['application/vnd.api+json', { 'content-type': 'application/vnd.api+json' }, json, 415],
  ['two at once', { 'content-type': 'application/json, text/plain' }, json, 415],
  ['rubbish', { 'content-type': ';;;=,"' }, json, 415],
  ['64 KiB of it', { 'content-type': 'a'.repeat(65_536) }, json, 415],
  ['UTF-16', { 'content-type': 'application/json; charset=utf-16' }, json, 415],
  ['an unknown charset', { 'content-type': 'application/json; charset=none' }, json, 415],
  ['a gzip bomb', { 'content-encoding': 'gzip' }, gzipSync(Buffer.alloc(20_000_000)), 415],
  ['br', { 'content-encoding': 'br' }, json, 415],
  ['an unknown encoding', { 'content-encoding': 'x' }, json, 415],
  ['identity', { 'content-encoding': 'identity' }, json, 201],
]
test.each(contentTypes)(
  'a body of %s is read only if it is JSON in UTF-8',
  async (what, type, body, status) => {
    const headers = { ...bearer(await newUser()), ...type }
    await probe.send(what, { method: 'POST', target, headers, body }, status)
  },
)

test('a merge patch is read by PATCH', async () => {
  const { task, ...user } = await probe.userWithTask()
  const headers = { ...bearer(user), 'content-type': 'application/merge-patch+json' }
  const message = { method: 'PATCH', target: `/api/tasks/${task.id}`, headers, body: json }
  await probe.send('a merge patch', message, 200)
})

describe('a body', () => {
  const bodyOf = (length: number) => `{"title":"x","unknown":"${'y'.repeat(length - 26)}"}`

  test.each([
    [64 * 1024, 201],
    [64 * 1024 + 1, 413],
    [10_000_000, 413],
  ])('of %d bytes in chunks is answered %d, and 401 to a stranger', async (size, status) => {
    const { token } = await newUser()
    const body = bodyOf(size)
    const chunks = Array.from({ length: Math.ceil(size / 16_384) }, (_, index) =>
      asChunk(body.slice(index * 16_384, (index + 1) * 16_384)),
    )
    const bytes = creation(token, chunked, Buffer.concat([...chunks, lastChunk]))
    const { answers } = await probe.raw('chunks', bytes, { to: ['POST'] })
    expect(answers.map((answer) => answer.status)).toEqual([status])
    await probe.send('a stranger', { method: 'POST', target, body }, 401)
  })

  test.each([
    ['said to be 1 TB is 413', { 'content-length': '1000000000000' }, '{', 413],
    [
      'that waits to be asked for is read',
      { expect: '100-continue', 'content-length': '13' },
      json,
      201,
    ],
  ] as const)('%s', async (what, framing, body, status) => {
    const { token } = await newUser()
    const { answers } = await probe.raw(what, creation(token, framing, body), { to: ['POST'] })
    expect(answers.map((answer) => answer.status)).toEqual([status])
  })
})

const sound = Buffer.concat([asChunk(json), lastChunk])
const hidden = (smuggled: Buffer) => Buffer.concat([lastChunk, smuggled])
const unclear: [
  what: string,
  framing: Record<string, string>,
  body: (smuggled: Buffer) => Uint8Array | string,
][] = [
  [
    'both lengths, chunked first',
    { 'transfer-encoding': 'chunked', 'content-length': '4' },
    () => sound,
  ],
  ['CL.TE', { 'content-length': '6', 'transfer-encoding': 'chunked' }, hidden],
  [
    'TE.CL',
    { 'content-length': '4', 'transfer-encoding': 'chunked' },
    (smuggled) => Buffer.concat([asChunk(smuggled), lastChunk]),
  ],
  ['an obfuscated TE', { 'content-length': '5', 'transfer-encoding': 'xchunked' }, hidden],
  [
    'a TE with a space before the colon',
    { 'content-length': '5', 'transfer-encoding ': 'chunked' },
    hidden,
  ],
  ['a TE with a tab', { 'content-length': '5', 'transfer-encoding': '\tchunked' }, hidden],
  [
    'two TEs',
    { 'content-length': '5', 'transfer-encoding': 'chunked', 'Transfer-Encoding': 'identity' },
    hidden,
  ],
  ['two lengths', { 'content-length': '13', 'Content-Length': '0' }, () => json],
  ['a list of lengths', { 'content-length': '13, 0' }, () => json],
  ['a length with a sign', { 'content-length': '+13' }, () => json],
  ['a negative length', { 'content-length': '-1' }, () => json],
  ['a length in hex', { 'content-length': '0xd' }, () => json],
  ['a length that is none', { 'content-length': 'x' }, () => json],
  ['a length of 2^64 + 13', { 'content-length': '18446744073709551629' }, () => json],
  ['a chunk size that is none', chunked, () => `x\r\n${json}\r\n0\r\n\r\n`],
  ['a negative chunk size', chunked, () => `-d\r\n${json}\r\n0\r\n\r\n`],
  ['a chunk size beyond 2^64', chunked, () => `1000000000000000d\r\n${json}\r\n0\r\n\r\n`],
  ['a chunk without its line break', chunked, () => `d\r\n${json}0\r\n\r\n`],
  [
    'a chunk extension of 100 KB',
    chunked,
    () => `d;x=${'y'.repeat(100_000)}\r\n${json}\r\n0\r\n\r\n`,
  ],
  ['line feeds alone', chunked, () => `d\n${json}\n0\n\n`],
  [
    'gzip, chunked',
    { 'transfer-encoding': 'gzip, chunked' },
    () => Buffer.concat([asChunk(gzipSync(json)), lastChunk]),
  ],
]
test.each(unclear)(
  'if two readers could disagree on its length, nothing is done: %s',
  async (what, framing, body) => {
    const { task, ...user } = await probe.userWithTask()
    const smuggled = bytesOf({
      method: 'DELETE',
      target: `/api/tasks/${task.id}`,
      headers: bearer(user),
    })
    await probe.raw(what, creation(user.token, framing, body(smuggled)), {
      to: ['POST', 'POST'],
      until: probe.serveOthers(),
    })
    expect(await probe.idsOf(user)).toEqual([task.id])
  },
)

test('trailers change nothing of the request: the runtime refuses them', async () => {
  const { token } = await newUser()
  const trailers = Buffer.from('0\r\nAuthorization: Bearer x\r\nX-Request-Id: trailer\r\n\r\n')
  const bytes = creation(token, chunked, Buffer.concat([asChunk(json), trailers]))
  await probe.raw('trailers', bytes, { to: ['POST'] })
})

const user = await newUser()
const { token } = user
const unfinishedJson = '{"title":"unfinished"}'
const whole = creation(token, { 'content-length': String(unfinishedJson.length) }, unfinishedJson)
const unfinished: [string, Uint8Array][] = [
  ['nothing', Buffer.alloc(0)],
  ['a line break', Buffer.from('\r\n')],
  ['half a request line', Buffer.from('GET /api/ta')],
  ['half a head', whole.subarray(0, 60)],
  ['a head without its body', whole.subarray(0, whole.length - unfinishedJson.length)],
  ['half a body', whole.subarray(0, whole.length - 5)],
  ['a body shorter than said', creation(token, { 'content-length': '1000' }, unfinishedJson)],
  ['a chunk without an end', creation(token, chunked, asChunk(unfinishedJson))],
  ['half a chunk', creation(token, chunked, asChunk(unfinishedJson).subarray(0, 10))],
  ['a chunk size alone', creation(token, chunked, 'ffff\r\n')],
]
test.each(unfinished)(
  '%s, and no more of a request, does nothing and holds nobody up',
  async (what, bytes) => {
    for (const ended of [false, true]) {
      const until = probe.serveOthers()
      const { answers } = await probe.raw(what, bytes, { to: ['POST'], ended, until })
      for (const { status } of answers) expect(status).toBeGreaterThanOrEqual(400)
    }
    expect(await probe.idsOf(user)).toEqual([])
  },
)

test('a whole request on a connection that is half closed gets a good answer, if any', async () => {
  const bytes = creation((await newUser()).token, { 'content-length': '13' }, json)
  await probe.raw('half closed', bytes, { to: ['POST'], ended: true })
})
