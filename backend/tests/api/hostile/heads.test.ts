import { test } from 'bun:test'
import { newUser } from '../../support/api.ts'
import { createProbe } from '../../support/probe.ts'

const probe = await createProbe()
const token = `authorization: Bearer ${(await newUser()).token}`
const many = (count: number, length: number) =>
  Array.from({ length: count }, (_, index) => `x-${index}: ${'y'.repeat(length)}`).join('\r\n')
const get = (line: string, ...headers: string[]) => [line, ...headers, '', ''].join('\r\n')
const list = 'GET /api/tasks HTTP/1.1'
const host = 'host: localhost'
const heads: [string, string | Uint8Array][] = [
  ['1,000 headers', get(list, host, token, many(1_000, 10))],
  ['10,000 headers', get(list, host, token, many(10_000, 1))],
  ['a header of 200 KiB', get(list, host, token, `x: ${'y'.repeat(200 * 1024)}`)],
  ['a header of 1 MiB', get(list, host, token, `x: ${'y'.repeat(1024 * 1024)}`)],
  ['a header name of 100 KB', get(list, host, token, `${'x'.repeat(100_000)}: y`)],
  ['a token of 100 KB', get(list, host, `authorization: Bearer ${'y'.repeat(100_000)}`)],
  [
    '1,000 times the same header',
    get(list, host, token, ...Array.from({ length: 1_000 }, () => 'x: y')),
  ],
  ['two tokens', get(list, host, token, 'authorization: Bearer x')],
  ['a folded header', get(list, host, 'x: a', ' b', token)],
  ['a header without a colon', get(list, host, 'nonsense', token)],
  ['a header without a name', get(list, host, ': x', token)],
  ['a space before a colon', get(list, host, 'x : y', token)],
  ['NUL in a header', get(list, host, 'x: a\0b', token)],
  ['NUL in a token', get(list, host, `authorization: Bearer a\0b`)],
  ['a lone carriage return', get(list, host, 'x: a\rb', token)],
  ['line feeds alone', get(list, host, token).replaceAll('\r\n', '\n')],
  ['Latin-1 in a header', Buffer.from(get(list, host, 'x-request-id: \xe9\xff', token), 'latin1')],
  ['a target of 100 KB', get(`GET /api/tasks?q=${'y'.repeat(100_000)} HTTP/1.1`, host, token)],
  ['a path of 100 KB', get(`GET /api/${'y'.repeat(100_000)} HTTP/1.1`, host, token)],
  ['a path of 10,000 segments', get(`GET ${'/a'.repeat(10_000)} HTTP/1.1`, host, token)],
  ['5,000 parameters', get(`GET /api/tasks?${'tag=a&'.repeat(5_000)} HTTP/1.1`, host, token)],
  ['no target', get('GET  HTTP/1.1', host, token)],
  ['no version', get('GET /api/tasks', host, token)],
  ['a space more', get('GET /api/tasks  HTTP/1.1', host, token)],
  ['a tab', get('GET\t/api/tasks\tHTTP/1.1', host, token)],
  ['HTTP/1.0', get('GET /api/tasks HTTP/1.0', host, token)],
  ['HTTP/0.9', 'GET /api/tasks\r\n'],
  ['HTTP/2.0', get('GET /api/tasks HTTP/2.0', host, token)],
  ['HTTP/9.9', get('GET /api/tasks HTTP/9.9', host, token)],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['TLS', Buffer.from('16030100a5010000a10303', 'hex')],
  ['bytes', Buffer.from(Array.from({ length: 256 }, (_, index) => index))],
  ['an absolute target elsewhere', get('GET http://elsewhere/api/tasks HTTP/1.1', host, token)],
  ['a target with a password', get('GET http://a:b@localhost/api/tasks HTTP/1.1', host, token)],
  ['a target of another scheme', get('GET file:///etc/passwd HTTP/1.1', host, token)],
  ['the asterisk', get('OPTIONS * HTTP/1.1', host, token)],
  ['the asterisk with GET', get('GET * HTTP/1.1', host, token)],
  ['an authority', get('CONNECT localhost:443 HTTP/1.1', host, token)],
  ['no slash', get('GET api/tasks HTTP/1.1', host, token)],
  ['dots', get('GET /docs/../../../../etc/passwd HTTP/1.1', host, token)],
  ['escaped dots', get('GET /docs/%2e%2e/%2e%2e/etc/passwd HTTP/1.1', host, token)],
  ['escaped slashes', get('GET /docs/..%2f..%2fetc%2fpasswd HTTP/1.1', host, token)],
  ['a backslash', get('GET \\api\\tasks HTTP/1.1', host, token)],
  ['half an escape', get('GET /api/tasks/% HTTP/1.1', host, token)],
  ['an escape that is none', get('GET /api/tasks/%zz HTTP/1.1', host, token)],
  ['an escape that is no UTF-8', get('GET /api/%ff%fe/tasks HTTP/1.1', host, token)],
  ['an escaped NUL', get('GET /api/%00/tasks?q=%00&tag=%00 HTTP/1.1', host, token)],
  ['a surrogate in escapes', get('GET /api/tasks?q=%ed%a0%80 HTTP/1.1', host, token)],
  ['a fragment', get('GET /api/tasks#x HTTP/1.1', host, token)],
  ['raw UTF-8 in the path', get('GET /api/tasks/ü HTTP/1.1', host, token)],
  ['lower case', get('get /api/tasks HTTP/1.1', host, token)],
  [
    'an upgrade',
    get(
      list,
      host,
      token,
      'connection: upgrade',
      'upgrade: websocket',
      'sec-websocket-version: 13',
      'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==',
    ),
  ],
  [
    'an upgrade to HTTP/2',
    get(
      list,
      host,
      token,
      'connection: upgrade, http2-settings',
      'upgrade: h2c',
      'http2-settings: AAMAAABkAAQAAP__',
    ),
  ],
  ['a range', get(list, host, token, 'range: bytes=0-0,1-1,2-,-5')],
  [
    'other conditions',
    get(list, host, token, 'if-range: x', 'if-modified-since: never', 'if-unmodified-since: 1'),
  ],
  [
    'everything accepted and nothing',
    get(list, host, token, 'accept: x/y', 'accept-encoding: identity;q=0', 'accept-charset: x'),
  ],
  [
    'a forged way here',
    get(
      list,
      host,
      token,
      'x-forwarded-for: 1.2.3.4',
      'x-forwarded-host: evil',
      'x-forwarded-proto: gopher',
      'x-http-method-override: DELETE',
      'x-original-url: /docs',
      'forwarded: for="_x"',
    ),
  ],
  ['a cookie', get(list, host, token, 'cookie: a=b; __proto__=c; =; ;;')],
  ['1,000 cookies', get(list, host, token, `cookie: ${'a=b; '.repeat(1_000)}`)],
  [
    'a deep query',
    get(
      `GET /api/tasks?${'a['.repeat(1_000)}]=1&__proto__[x]=1&constructor.prototype.x=1 HTTP/1.1`,
      host,
      token,
    ),
  ],
]

/** The document and the rules of every answer say what is right: nothing more is asked here. */
test.each(heads)(
  'a head with %s gets an answer that is declared, or a bare refusal',
  async (what, bytes) => {
    const [line] = Buffer.from(bytes).toString('latin1').split('\r\n')
    const [method = '', target = ''] = line!.split(' ')
    // Without an end of the head the server may wait for one, as long as others are served.
    const isOpen = !Buffer.from(bytes).includes('\r\n\r\n')
    await probe.raw(what, bytes, {
      to: [method || 'GET'],
      target,
      ...(isOpen && { until: probe.serveOthers() }),
    })
  },
)
