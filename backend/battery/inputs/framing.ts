import { gzipSync } from 'node:zlib'
import { newUser } from '../../tests/support/api.ts'
import { bearer, each, shortened, userWithTask, type Probe } from './probe.ts'
import { bytesOf, exchange } from './wire.ts'

/** Bodies of the wrong type or length, and requests of which it is not clear where they end. */
export async function tryFraming(probe: Probe): Promise<void> {
  await tryContentTypes(probe)
  await trySizes(probe)
  await tryLengths(probe)
  await tryUnfinished(probe)
}

async function tryContentTypes(probe: Probe): Promise<void> {
  const { task, ...user } = await userWithTask(probe)
  const json = '{"title":"x"}'
  const post = { method: 'POST', target: '/api/tasks' }
  const cases: [string, Record<string, string>, string | Uint8Array, number][] = [
    ['none', { 'content-type': '' }, json, 415],
    ['text/plain', { 'content-type': 'text/plain' }, json, 415],
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }, 'title=x', 415],
    ['multipart', { 'content-type': 'multipart/form-data; boundary=x' }, '--x--', 415],
    ['multipart without a boundary', { 'content-type': 'multipart/form-data' }, '--x--', 415],
    ['application/jsonp', { 'content-type': 'application/jsonp' }, json, 415],
    ['application/json5', { 'content-type': 'application/json5' }, json, 415],
    ['application/vnd.api+json', { 'content-type': 'application/vnd.api+json' }, json, 415],
    ['two at once', { 'content-type': 'application/json, text/plain' }, json, 415],
    ['rubbish', { 'content-type': ';;;=,"' }, json, 415],
    ['64 KiB of it', { 'content-type': 'a'.repeat(65_536) }, json, 415],
    ['capital letters', { 'content-type': 'Application/JSON' }, json, 201],
    ['UTF-8', { 'content-type': 'application/json; charset=utf-8' }, json, 201],
    ['UTF-8 in quotes', { 'content-type': 'application/json;charset="UTF-8"' }, json, 201],
    ['another parameter', { 'content-type': 'application/json; profile=x' }, json, 201],
    ['UTF-16', { 'content-type': 'application/json; charset=utf-16' }, json, 415],
    ['Latin-1', { 'content-type': 'application/json; charset=iso-8859-1' }, json, 415],
    ['an unknown charset', { 'content-type': 'application/json; charset=none' }, json, 415],
    ['gzip', { 'content-encoding': 'gzip' }, gzipSync(json), 415],
    ['a gzip bomb', { 'content-encoding': 'gzip' }, gzipSync(Buffer.alloc(20_000_000)), 415],
    ['br', { 'content-encoding': 'br' }, json, 415],
    ['an unknown encoding', { 'content-encoding': 'x' }, json, 415],
    ['identity', { 'content-encoding': 'identity' }, json, 201],
    ['merge-patch on POST', { 'content-type': 'application/merge-patch+json' }, json, 415],
  ]
  await each(cases, async ([what, headers, body, status]) => {
    await probe.attempt(
      `a content type or encoding: ${what}`,
      { ...post, headers: { ...bearer(user), ...headers }, body },
      { expected: [status] },
    )
  })
  await probe.attempt(
    'merge-patch on PATCH',
    {
      method: 'PATCH',
      target: `/api/tasks/${task.id}`,
      headers: { ...bearer(user), 'content-type': 'application/merge-patch+json' },
      body: json,
    },
    { expected: [200] },
  )
}

const chunked = { 'transfer-encoding': 'chunked' }
const asChunk = (text: string | Uint8Array) =>
  Buffer.concat([
    Buffer.from(`${text.length.toString(16)}\r\n`),
    Buffer.from(text),
    Buffer.from('\r\n'),
  ])
const lastChunk = Buffer.from('0\r\n\r\n')

/** The bytes of a creation whose framing is given by hand. */
export function creation(
  token: string,
  framing: Record<string, string>,
  body: string | Uint8Array,
): Buffer {
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    ...framing,
  }
  return Buffer.concat([
    bytesOf({ method: 'POST', target: '/api/tasks', headers }),
    Buffer.from(body),
  ])
}

const bodyOf = (length: number) => `{"title":"x","unknown":"${'y'.repeat(length - 26)}"}`

async function trySizes(probe: Probe): Promise<void> {
  const user = await newUser()
  const sizes = [
    [64 * 1024 - 1, 201],
    [64 * 1024, 201],
    [64 * 1024 + 1, 413],
    [10_000_000, 413],
  ] as const
  for (const [size, status] of sizes) {
    const body = bodyOf(size)
    await probe.attempt(
      `a body of ${size} bytes`,
      { method: 'POST', target: '/api/tasks', headers: bearer(user), body },
      { expected: [status] },
    )
    const inChunks = Buffer.concat([
      ...Array.from({ length: Math.ceil(size / 16_384) }, (_, index) =>
        asChunk(body.slice(index * 16_384, (index + 1) * 16_384)),
      ),
      lastChunk,
    ])
    await sendCreation(`a body of ${size} bytes in chunks`, chunked, inChunks, [status])
    // Strangers are refused without being listened to.
    await probe.attempt(
      `a stranger’s body of ${size} bytes`,
      { method: 'POST', target: '/api/tasks', body },
      { expected: [401] },
    )
  }
  await sendCreation('a body said to be 1 TB', { 'content-length': '1000000000000' }, '{', [413])
  await sendCreation(
    'a body that waits to be asked for',
    { expect: '100-continue', 'content-length': '13' },
    '{"title":"x"}',
    [201],
  )

  async function sendCreation(
    what: string,
    framing: Record<string, string>,
    body: string | Uint8Array,
    expected: number[],
  ): Promise<void> {
    const { answers } = await probe.raw(what, creation(user.token, framing, body), { to: ['POST'] })
    const [answer] = answers
    if (answer) probe.judge(what, 'POST', '/api/tasks', answer)
    if (!expected.includes(answer?.status ?? 0))
      probe.report.violation(
        `${what}: was answered ${answer?.status} and not ${expected.join(' or ')}`,
      )
  }
}

/** Where two readers could disagree on how long a body is, nothing may be carried out. */
async function tryLengths(probe: Probe): Promise<void> {
  const json = '{"title":"x"}'
  const sound = Buffer.concat([asChunk(json), lastChunk])
  const cases: [
    what: string,
    framing: Record<string, string>,
    body: (smuggled: Buffer) => Uint8Array | string,
  ][] = [
    [
      'both lengths, chunked first',
      { 'transfer-encoding': 'chunked', 'content-length': '4' },
      () => sound,
    ],
    [
      'CL.TE',
      { 'content-length': '6', 'transfer-encoding': 'chunked' },
      (smuggled) => Buffer.concat([lastChunk, smuggled]),
    ],
    [
      'TE.CL',
      { 'content-length': '4', 'transfer-encoding': 'chunked' },
      (smuggled) => Buffer.concat([asChunk(smuggled), lastChunk]),
    ],
    [
      'an obfuscated TE',
      { 'content-length': '5', 'transfer-encoding': 'xchunked' },
      (smuggled) => Buffer.concat([lastChunk, smuggled]),
    ],
    [
      'a TE with a space before the colon',
      { 'content-length': '5', 'transfer-encoding ': 'chunked' },
      (smuggled) => Buffer.concat([lastChunk, smuggled]),
    ],
    [
      'a TE with a tab',
      { 'content-length': '5', 'transfer-encoding': '\tchunked' },
      (smuggled) => Buffer.concat([lastChunk, smuggled]),
    ],
    [
      'two TEs',
      { 'content-length': '5', 'transfer-encoding': 'chunked', 'Transfer-Encoding': 'identity' },
      (smuggled) => Buffer.concat([lastChunk, smuggled]),
    ],
    ['two lengths', { 'content-length': '13', 'Content-Length': '0' }, () => json],
    ['a list of lengths', { 'content-length': '13, 0' }, () => json],
    ['a length with a sign', { 'content-length': '+13' }, () => json],
    ['a negative length', { 'content-length': '-1' }, () => json],
    ['a length in hex', { 'content-length': '0xd' }, () => json],
    ['a length that is none', { 'content-length': 'x' }, () => json],
    ['a length of 2^64 + 13', { 'content-length': '18446744073709551629' }, () => json],
    [
      'a chunk size that is none',
      { 'transfer-encoding': 'chunked' },
      () => `x\r\n${json}\r\n0\r\n\r\n`,
    ],
    [
      'a negative chunk size',
      { 'transfer-encoding': 'chunked' },
      () => `-d\r\n${json}\r\n0\r\n\r\n`,
    ],
    [
      'a chunk size beyond 2^64',
      { 'transfer-encoding': 'chunked' },
      () => `1000000000000000d\r\n${json}\r\n0\r\n\r\n`,
    ],
    [
      'a chunk without its line break',
      { 'transfer-encoding': 'chunked' },
      () => `d\r\n${json}0\r\n\r\n`,
    ],
    [
      'a chunk extension of 100 KB',
      { 'transfer-encoding': 'chunked' },
      () => `d;x=${'y'.repeat(100_000)}\r\n${json}\r\n0\r\n\r\n`,
    ],
    ['line feeds alone', { 'transfer-encoding': 'chunked' }, () => `d\n${json}\n0\n\n`],
    [
      'gzip, chunked',
      { 'transfer-encoding': 'gzip, chunked' },
      () => Buffer.concat([asChunk(gzipSync(json)), lastChunk]),
    ],
  ]
  await each(cases, async ([what, framing, body]) => {
    const { task, ...user } = await userWithTask(probe)
    const target = `/api/tasks/${task.id}`
    const smuggled = bytesOf({ method: 'DELETE', target, headers: bearer(user) })
    const { answers } = await probe.raw(
      `framing: ${what}`,
      creation(user.token, framing, body(smuggled)),
      { to: ['POST', 'DELETE'], until: serveOthers(probe) },
    )
    for (const answer of answers) probe.judge(`framing: ${what}`, 'POST', '/api/tasks', answer)
    if (!Bun.deepEquals(await probe.idsOf(user), [task.id]))
      probe.report.violation(
        `framing: ${what}: it was carried out, ${answers.map(({ status }) => status).join(' ')}`,
      )
  })

  // Nothing is unclear about trailers. The runtime refuses them, after the request has begun.
  const user = await newUser()
  const trailers = Buffer.from('0\r\nAuthorization: Bearer x\r\nX-Request-Id: trailer\r\n\r\n')
  const { answers } = await probe.raw(
    'framing: trailers',
    creation(user.token, chunked, Buffer.concat([asChunk(json), trailers])),
    { to: ['POST'] },
  )
  for (const answer of answers) probe.judge('framing: trailers', 'POST', '/api/tasks', answer)
}

/** Somebody else is served in the meantime, a few times over. */
export async function serveOthers(probe: Probe): Promise<void> {
  for (let count = 0; count < 20; count += 1)
    await exchange(probe.port, bytesOf({ target: '/ready' }))
}

/** What has begun and does not end must change nothing, and hold up nobody. */
async function tryUnfinished(probe: Probe): Promise<void> {
  const json = '{"title":"unfinished"}'
  const user = await newUser()
  const whole = creation(user.token, { 'content-length': String(json.length) }, json)
  const unfinished: [string, Uint8Array][] = [
    ['nothing', Buffer.alloc(0)],
    ['a line break', Buffer.from('\r\n')],
    ['half a request line', Buffer.from('GET /api/ta')],
    ['half a head', whole.subarray(0, 60)],
    ['a head without its body', whole.subarray(0, whole.length - json.length)],
    ['half a body', whole.subarray(0, whole.length - 5)],
    ['a body shorter than said', creation(user.token, { 'content-length': '1000' }, json)],
    ['a chunk without an end', creation(user.token, chunked, asChunk(json))],
    ['half a chunk', creation(user.token, chunked, asChunk(json).subarray(0, 10))],
    ['a chunk size alone', creation(user.token, chunked, 'ffff\r\n')],
  ]
  await each(unfinished, async ([what, bytes]) => {
    for (const ended of [false, true]) {
      const { answers } = await probe.raw(`unfinished: ${what}`, bytes, {
        to: ['POST'],
        ended,
        until: serveOthers(probe),
      })
      for (const answer of answers) {
        probe.judge(`unfinished: ${what}`, 'POST', '/api/tasks', answer)
        if (answer.status < 400)
          probe.report.violation(`unfinished: ${what}: was answered ${answer.status}`)
      }
    }
  })
  const { text } = (await probe.attempt('what was unfinished', {
    target: '/api/tasks',
    headers: bearer(user),
  }))!
  if (text !== '[]')
    probe.report.violation(`an unfinished request was carried out: ${shortened(text)}`)

  const finished = await probe.raw('a half-closed connection', whole, { to: ['POST'], ended: true })
  if (finished.ending === 'closed') probe.report.count('half-closed connections hung up on')
  for (const answer of finished.answers)
    probe.judge('a half-closed connection', 'POST', '/api/tasks', answer)
}
