import { version } from '../../../package.json'
import { afterAll, describe, expect, spyOn, test } from 'bun:test'
import { connect as dial } from 'node:net'
import { DatabaseUnavailable } from '../../db/failures.ts'
import { failures, type FailureCode, type FieldError } from '../../http/failures.ts'
import {
  databaseThat,
  frontEnd,
  newUser,
  rowsOf,
  startApi,
  type Answer,
  type RequestOptions,
  type TaskBody,
} from '../support/api.ts'

const api = startApi()
afterAll(api.stop)

/** Checks a failed answer as a whole: the exact body, and the headers that every answer has. */
function expectFailure(answer: Answer, code: FailureCode, errors?: FieldError[]): void {
  const { status } = failures[code]
  const [first] = errors ?? []
  const detail = first ? `${first.field}: ${first.detail}` : failures[code].detail
  expect(answer.status).toBe(status)
  expect(answer.body).toEqual({
    detail,
    code,
    request_id: answer.headers.get('x-request-id'),
    ...(errors && { errors }),
  })
  expect(answer.headers.get('content-type')).toBe('application/json')
  expect(answer.headers.get('access-control-allow-origin')).toBe(frontEnd)
  expect(answer.headers.get('access-control-allow-credentials')).toBe('true')
  expect(answer.headers.get('vary')).toContain('Origin')
}

async function ask(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
  return api.request(method, path, {
    ...options,
    headers: { origin: frontEnd, ...options.headers },
  })
}

const titleRule =
  'must be text of 1 to 200 characters, without control characters (but tab, line feed, carriage return) and lone surrogates'
const descriptionRule =
  'must be text of 0 to 1000 characters, without control characters (but tab, line feed, carriage return) and lone surrogates or null'

describe('fields', () => {
  const refusedOnCreate: [string, unknown, FieldError[]][] = [
    ['no title', {}, [{ field: 'title', detail: 'is required' }]],
    ['an empty title', { title: '' }, [{ field: 'title', detail: titleRule }]],
    ['a title of spaces', { title: ' \t\n\u00a0\u3000' }, [{ field: 'title', detail: titleRule }]],
    [
      'a title of 201 characters',
      { title: 'x'.repeat(201) },
      [{ field: 'title', detail: titleRule }],
    ],
    ['a title of 201 emoji', { title: '🥛'.repeat(201) }, [{ field: 'title', detail: titleRule }]],
    ['a title with a NUL', { title: 'a\0b' }, [{ field: 'title', detail: titleRule }]],
    ...['\u0001', '\b', '\v', '\u001b[2J', '\u001f', '\u007f', '\u0085', '\u009f'].map(
      (control): [string, unknown, FieldError[]] => [
        `a title with ${JSON.stringify(control)}`,
        { title: `a${control}b` },
        [{ field: 'title', detail: titleRule }],
      ],
    ),
    [
      'a description with an escape',
      { title: 'a', description: '\u001b[2J' },
      [{ field: 'description', detail: descriptionRule }],
    ],
    ['a title with half a pair', { title: 'a\ud800b' }, [{ field: 'title', detail: titleRule }]],
    ['a title that is null', { title: null }, [{ field: 'title', detail: titleRule }]],
    ['a title that is a number', { title: 1 }, [{ field: 'title', detail: titleRule }]],
    ['a title that is a list', { title: ['a'] }, [{ field: 'title', detail: titleRule }]],
    [
      'a description of 1001 characters',
      { title: 'a', description: 'x'.repeat(1001) },
      [{ field: 'description', detail: descriptionRule }],
    ],
    [
      'a description with a NUL',
      { title: 'a', description: '\0' },
      [{ field: 'description', detail: descriptionRule }],
    ],
    [
      'a description that is a number',
      { title: 'a', description: 5 },
      [{ field: 'description', detail: descriptionRule }],
    ],
    ...['true', 1, 0, null, [], {}].map((completed): [string, unknown, FieldError[]] => [
      `completed as ${JSON.stringify(completed)}`,
      { title: 'a', completed },
      [{ field: 'completed', detail: 'must be true or false' }],
    ]),
    [
      'several things at once',
      { title: '', description: 1, completed: 'no' },
      [
        { field: 'title', detail: titleRule },
        { field: 'description', detail: descriptionRule },
        { field: 'completed', detail: 'must be true or false' },
      ],
    ],
    ...[[], ['x'], 'x', 1, null, true].map((json): [string, unknown, FieldError[]] => [
      `the body ${JSON.stringify(json)}`,
      json,
      [{ field: 'body', detail: 'must be a JSON object' }],
    ]),
  ]

  test.each(refusedOnCreate)('%s creates nothing', async (_, json, errors) => {
    const { id: user, token } = await newUser()
    expectFailure(await ask('POST', '/api/tasks', { token, json }), 'validation_failed', errors)
    expect(await rowsOf(user)).toEqual([])
  })

  test('POST without a body creates nothing', async () => {
    const { token } = await newUser()
    const headers = { 'content-type': 'application/json' }
    expectFailure(await ask('POST', '/api/tasks', { token, headers }), 'validation_failed', [
      { field: 'body', detail: 'must be a JSON object' },
    ])
  })

  const atLeastOne =
    'must have at least one of title, description, completed, priority, tags, due_date, due_time, due_timezone, recurrence, recurrence_from, recurrence_rule, recurrence_pattern, reminders, reminder_at'
  const refusedOnUpdate: [string, unknown, FieldError[]][] = [
    ['{}', {}, [{ field: 'body', detail: atLeastOne }]],
    ['no known field', { titel: 'x', id: 5 }, [{ field: 'body', detail: atLeastOne }]],
    [
      'a bad field besides a good one',
      { title: 'Good', completed: 'x' },
      [{ field: 'completed', detail: 'must be true or false' }],
    ],
    ['a title of spaces', { title: '  ' }, [{ field: 'title', detail: titleRule }]],
    ['a title that is null', { title: null }, [{ field: 'title', detail: titleRule }]],
    ['a list', [{ title: 'x' }], [{ field: 'body', detail: 'must be a JSON object' }]],
    ['null', null, [{ field: 'body', detail: 'must be a JSON object' }]],
  ]

  test.each(refusedOnUpdate)('PUT with %s changes nothing', async (_, json, errors) => {
    const { id: user, token } = await newUser()
    const created = await api.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title: 'Old' },
    })
    const before = await rowsOf(user)
    const answer = await ask('PUT', `/api/tasks/${created.body.id}`, { token, json })
    expectFailure(answer, 'validation_failed', errors)
    expect(await rowsOf(user)).toEqual(before)
  })

  test.each([
    ['completed as text', { completed: 'true' }, 'completed', 'must be true or false'],
    ['completed as null', { completed: null }, 'completed', 'must be true or false'],
    ['only an unknown field', { complete: true }, 'body', 'must have at least one of completed'],
    ['a list', [], 'body', 'must be a JSON object'],
    ['null', null, 'body', 'must be a JSON object'],
  ])('complete with %s changes nothing', async (_, json, field, detail) => {
    const { id: user, token } = await newUser()
    const created = await api.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title: 'Old' },
    })
    const before = await rowsOf(user)
    const answer = await ask('PATCH', `/api/tasks/${created.body.id}/complete`, { token, json })
    expectFailure(answer, 'validation_failed', [{ field, detail }])
    expect(await rowsOf(user)).toEqual(before)
  })

  test.each([
    ['200 characters', 'x'.repeat(200)],
    ['200 emoji, which are 400 UTF-16 units', '🥛'.repeat(200)],
    ['200 characters and spaces around them', `  ${'x'.repeat(200)}  `],
    ['SQL', `'); drop table tasks; --`],
    ['HTML', '<script>alert(1)</script>'],
    ['right-to-left text and combining marks', 'مکمل ‏\u202e é \u200d'],
  ])('a title of %s comes back as it is', async (_, title) => {
    const { id: user, token } = await newUser()
    const { status, body } = await api.request<TaskBody>('POST', '/api/tasks', {
      token,
      json: { title, description: 'y'.repeat(1000) },
    })
    expect(status).toBe(201)
    expect(body.title).toBe(title.trim())
    expect(await rowsOf(user)).toMatchObject([
      { title: title.trim(), description: 'y'.repeat(1000) },
    ])
  })
})

describe('ids', () => {
  const rule = 'must be a whole number from 1 to 9007199254740991'
  test.each([
    '0',
    '-1',
    '01',
    '1e3',
    '0x10',
    '1.5',
    '1.0',
    '+1',
    ' 1',
    '1 ',
    'abc',
    '%00',
    '%ZZ',
    '１',
    'null',
    'NaN',
    'Infinity',
    '9007199254740992',
    '9007199254740993',
    '99999999999999999999',
    '1,2',
    "1'--",
  ])('%p is refused', async (id) => {
    const { token } = await newUser()
    const path = `/api/tasks/${id.includes('%') ? id : encodeURIComponent(id)}`
    const errors = [{ field: 'id', detail: rule }]
    for (const [method, at] of [
      ['GET', path],
      ['PUT', path],
      ['DELETE', path],
      ['PATCH', `${path}/complete`],
    ] as const) {
      const json = method === 'PUT' ? { json: { title: 'x' } } : {}
      expectFailure(await ask(method, at, { token, ...json }), 'validation_failed', errors)
    }
  })

  test.each(['1', '9007199254740991'])('%p is an id', async (id) => {
    const { token } = await newUser()
    expect([403, 404]).toContain((await ask('GET', `/api/tasks/${id}`, { token })).status)
  })

  test.each(['pendin', 'all,pending', 'null'])('the status %p is refused', async (status) => {
    const { token } = await newUser()
    expectFailure(await ask('GET', `/api/tasks?status=${status}`, { token }), 'validation_failed', [
      { field: 'status', detail: 'must be one of all, pending, completed' },
    ])
  })
})

describe('bodies', () => {
  const json = { 'content-type': 'application/json' }
  const unclear = [{ field: 'body', detail: 'must be JSON (RFC 8259) in UTF-8' }]
  const malformed: [string, Bun.BodyInit][] = [
    ['a brace', '{'],
    ['single quotes', `{'title':'x'}`],
    ['a trailing comma', '{"title":"x",}'],
    ['a comment', '{"title":"x"} // comment'],
    ['two values', '{"title":"x"}{"title":"y"}'],
    ['NaN', '{"title":NaN}'],
    ['a raw control character', '{"title":"a\u0001"}'],
    [
      'invalid UTF-8',
      new Uint8Array([...Buffer.from('{"title":"'), 0xff, 0xc0, ...Buffer.from('"}')]),
    ],
    ['UTF-16', Buffer.from('{"title":"x"}', 'utf16le')],
    ['32 brackets that nothing closes', '['.repeat(32)],
    ['brackets in a text that nothing closes', `{"title":"\\"${'['.repeat(50)}`],
    ['spaces', '   '],
  ]
  test.each(malformed)('%s is malformed', async (_, body) => {
    const { id: user, token } = await newUser()
    const answer = await ask('POST', '/api/tasks', { token, body, headers: json })
    expectFailure(answer, 'malformed_json', unclear)
    expect(await rowsOf(user)).toEqual([])
  })

  const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)
  const deep = 'must be nested 32 levels deep at most'
  const fields = ['title', 'description', 'tags', 'due_date', 'completed', 'unknown']

  test.each(fields)(
    'one that is nested deep in %s is refused before it is parsed',
    async (field) => {
      const { id: user, token } = await newUser()
      const parse = spyOn(JSON, 'parse')
      for (const levels of [32, 1_000, 32_000]) {
        const body = `{"title":"x","${field}":${nested(levels)}}`
        parse.mockClear()
        const answer = await ask('POST', '/api/tasks', { token, body, headers: json })
        expectFailure(answer, 'validation_failed', [{ field: 'body', detail: deep }])
        expect(parse.mock.calls.map(([text]) => text)).not.toContain(body)
      }
      parse.mockRestore()
      expectFailure(
        await ask('POST', '/api/tasks', { token, body: '['.repeat(50_000), headers: json }),
        'validation_failed',
        [{ field: 'body', detail: deep }],
      )
      expect(await rowsOf(user)).toEqual([])
    },
  )

  test('one of 32 levels is read, and so are brackets in text', async () => {
    const { token } = await newUser()
    const title = `\\"${'['.repeat(99)}`
    const body = `{"title":${JSON.stringify(title)},"unknown":${nested(31)}}`
    const answer = await ask('POST', '/api/tasks', { token, body, headers: json })
    expect(answer.status).toBe(201)
    expect(answer.body).toMatchObject({ title })
  })

  test.each([
    ['POST', '/api/tasks', 'title'],
    ['POST', '/api/tasks', 'tags'],
    ['POST', '/api/tasks', 'due_date'],
    ['PUT', '/api/tasks/1', 'description'],
    ['PATCH', '/api/tasks/1', 'tags'],
    ['PATCH', '/api/tasks/1/complete', 'completed'],
  ])('%s %s never prints a large value of %s that is wrong', async (method, path, field) => {
    const { token } = await newUser()
    const value = Array.from({ length: 1_000 }, () => JSON.parse(nested(29)) as unknown)
    const body = JSON.stringify({ title: 'x', [field]: value })
    const print = spyOn(JSON, 'stringify')
    const { status } = await ask(method, path, { token, body, headers: json })
    const lengths = print.mock.results.map(({ value: text }) => String(text).length)
    print.mockRestore()
    expect(status).toBe(422)
    expect(Math.max(...lengths)).toBeLessThan(10_000)
  })

  test('a list with very many wrong items names only a few of them', async () => {
    const { token } = await newUser()
    const tags = Array.from({ length: 20_000 }, () => 1)
    const answer = await ask('POST', '/api/tasks', { token, json: { title: 'x', tags } })
    expect(answer.status).toBe(422)
    expect(answer.text.length).toBeLessThan(10_000)
  })

  test.each([
    ['no content type', ''],
    ['text', 'text/plain'],
    ['a form', 'application/x-www-form-urlencoded'],
    ['a multipart form', 'multipart/form-data; boundary=x'],
    ['something like JSON', 'application/jsonp'],
    ['another charset', 'application/json; charset=latin1'],
    ['a merge patch on POST', 'application/merge-patch+json'],
  ])('%s is not supported', async (_, type) => {
    const { id: user, token } = await newUser()
    const body = Buffer.from('{"title":"x"}')
    const headers = type === '' ? {} : { 'content-type': type }
    expectFailure(
      await ask('POST', '/api/tasks', { token, body, headers }),
      'unsupported_media_type',
    )
    expect(await rowsOf(user)).toEqual([])
  })

  test('a compressed body is not supported', async () => {
    const { token } = await newUser()
    const body = Bun.gzipSync(Buffer.from('{"title":"x"}'))
    const headers = { ...json, 'content-encoding': 'gzip' }
    expectFailure(
      await ask('POST', '/api/tasks', { token, body, headers }),
      'unsupported_media_type',
    )
  })

  test.each([
    'application/json',
    'APPLICATION/JSON',
    'application/json;charset=utf-8',
    'application/json ; charset="UTF-8"; foo=bar',
  ])('%s is JSON', async (type) => {
    const { token } = await newUser()
    const answer = await ask('POST', '/api/tasks', {
      token,
      body: '{"title":"x"}',
      headers: { 'content-type': type },
    })
    expect(answer.status).toBe(201)
  })

  const padded = (bytes: number) => '{"title":"x","filler":"'.padEnd(bytes - 2, 'x') + '"}'

  test('64 KiB is the most, to the byte', async () => {
    const { id: user, token } = await newUser()
    const most = await ask('POST', '/api/tasks', { token, body: padded(65_536), headers: json })
    expect(most.status).toBe(201)
    const more = await ask('POST', '/api/tasks', { token, body: padded(65_537), headers: json })
    expectFailure(more, 'body_too_large')
    expect(await rowsOf(user)).toHaveLength(1)
  })

  test('10 MB is too much, with its length announced or without', async () => {
    const { token } = await newUser()
    const body = padded(10_000_000)
    expectFailure(await ask('POST', '/api/tasks', { token, body, headers: json }), 'body_too_large')
    const chunked = new Blob([body]).stream()
    expectFailure(
      await ask('PUT', '/api/tasks/1', { token, body: chunked, headers: json }),
      'body_too_large',
    )
  })

  test('a body that is announced and never comes holds nobody else up', async () => {
    const { token } = await newUser()
    const socket = dial(Number(new URL(api.origin).port), '127.0.0.1')
    socket.write(
      `POST /api/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"ti`,
    )
    expect((await ask('GET', '/api/tasks', { token })).body).toEqual([])
    socket.destroy()
    expect((await ask('GET', '/api/tasks', { token })).body).toEqual([])
  })
})

test('Content-Encoding is read in any case', async () => {
  const { token } = await newUser()
  const headers = { 'content-type': 'application/json', 'content-encoding': 'Identity' }
  expect((await ask('POST', '/api/tasks', { token, body: '{"title":"x"}', headers })).status).toBe(
    201,
  )
})

describe('somebody else’s task', () => {
  const attempts: [string, string, RequestOptions][] = [
    ['GET', '', {}],
    ['HEAD', '', {}],
    ['PUT', '', { json: { title: 'Stolen' } }],
    ['PATCH', '/complete', {}],
    ['PATCH', '/complete', { json: { completed: true } }],
    ['DELETE', '', {}],
  ]
  test.each(attempts)(
    '%s %s is refused, and the task stays as it was',
    async (method, rest, options) => {
      const [alice, mallory] = [await newUser(), await newUser()]
      const { body: task } = await api.request<TaskBody>('POST', '/api/tasks', {
        token: alice.token,
        json: { title: 'Hers' },
      })
      const before = await rowsOf(alice.id)
      for (const mount of ['/api/tasks', `/api/${mallory.id}/tasks`]) {
        const path = `${mount}/${task.id}${rest}`
        const answer = await ask(method, path, { token: mallory.token, ...options })
        if (method === 'HEAD') expect(answer.status).toBe(403)
        else expectFailure(answer, 'not_owner')
        expect(await rowsOf(alice.id)).toEqual(before)
      }
      expect(await rowsOf(mallory.id)).toEqual([])
    },
  )

  test.each(attempts)('%s %s of a task that is nobody’s is 404', async (method, rest, options) => {
    const { token } = await newUser()
    const answer = await ask(method, `/api/tasks/9007199254740991${rest}`, { token, ...options })
    if (method === 'HEAD') expect(answer.status).toBe(404)
    else expectFailure(answer, 'task_not_found')
  })

  test.each(attempts)(
    '%s %s under another user’s path is refused',
    async (method, rest, options) => {
      const [alice, mallory] = [await newUser(), await newUser()]
      const { body: task } = await api.request<TaskBody>('POST', '/api/tasks', {
        token: alice.token,
        json: { title: 'Hers' },
      })
      const before = await rowsOf(alice.id)
      const path = `/api/${alice.id}/tasks/${task.id}${rest}`
      const answer = await ask(method, path, { token: mallory.token, ...options })
      if (method === 'HEAD') expect(answer.status).toBe(403)
      else expectFailure(answer, 'wrong_user')
      expect(await rowsOf(alice.id)).toEqual(before)
    },
  )

  test('listing and creating under another user’s path is refused, before anything about the body', async () => {
    const [alice, mallory] = [await newUser(), await newUser()]
    for (const method of ['GET', 'POST']) {
      const options = method === 'POST' ? { body: '{' } : {}
      const answer = await ask(method, `/api/${alice.id}/tasks`, {
        token: mallory.token,
        ...options,
      })
      expectFailure(answer, 'wrong_user')
    }
    expectFailure(await ask('GET', '/api/%ZZ/tasks', { token: mallory.token }), 'wrong_user')
  })
})

describe('routes', () => {
  test.each([
    '/nope',
    '/api',
    '/health/x',
    '/docs/swagger-ui.js',
    '/api/tasks/1/complete/x',
    '/api/tasks/1/nope',
    '/api//tasks',
    '/api/tasks//',
  ])('%s is no route', async (path) => {
    const { token } = await newUser()
    expectFailure(await ask('GET', path, { token }), 'route_not_found')
  })

  test.each([
    ['PATCH', '/api/tasks', 'GET, HEAD, OPTIONS, POST'],
    ['DELETE', '/api/tasks/', 'GET, HEAD, OPTIONS, POST'],
    ['POST', '/api/tasks/1', 'DELETE, GET, HEAD, OPTIONS, PATCH, PUT'],
    ['GET', '/api/tasks/1/complete', 'OPTIONS, PATCH'],
    ['HEAD', '/api/tasks/1/complete', 'OPTIONS, PATCH'],
    ['DELETE', '/api/me/tasks', 'GET, HEAD, OPTIONS, POST'],
    ['POST', '/health', 'GET, HEAD, OPTIONS'],
    ['POST', '/', 'GET, HEAD, OPTIONS'],
    ['PUT', '/docs', 'GET, HEAD, OPTIONS'],
    ['DELETE', '/docs/json', 'GET, HEAD, OPTIONS'],
    ['PUT', '/api/tasks/trash', 'GET, HEAD, OPTIONS'],
    ['POST', '/api/tasks/trash', 'GET, HEAD, OPTIONS'],
    ['PATCH', '/api/tasks/events/', 'GET, HEAD, OPTIONS'],
    ['DELETE', '/api/tasks/changes', 'GET, HEAD, OPTIONS'],
    ['DELETE', '/api/tasks/events/ticket', 'OPTIONS, POST'],
  ])('%s %s is not allowed, and the answer says what is', async (method, path, allow) => {
    const { token } = await newUser()
    const answer = await ask(method, path, { token })
    expect(answer.headers.get('allow')).toBe(allow)
    if (method === 'HEAD') expect(answer.status).toBe(405)
    else expectFailure(answer, 'method_not_allowed')
  })

  test.each(['changes', 'events', 'trash'])(
    'a stranger gets 401, not 405, for %s',
    async (path) => {
      expectFailure(await ask('PUT', `/api/tasks/${path}`), 'token_missing')
      const { id, token } = await newUser()
      expectFailure(await ask('PUT', `/api/${id}/tasks/${path}`, { token }), 'method_not_allowed')
      expectFailure(await ask('PUT', `/api/other/tasks/${path}`, { token }), 'wrong_user')
    },
  )
})

describe('the Host header', () => {
  /** Sends a head as it is, and gives the answer. */
  async function sendHead(lines: string[]): Promise<{ status: number; body: string }> {
    const socket = dial(Number(new URL(api.origin).port), '127.0.0.1')
    socket.write([...lines, 'Connection: close', '', ''].join('\r\n'), 'latin1')
    let text = ''
    for await (const bytes of socket) text += String(bytes)
    return { status: Number(text.split(' ')[1]), body: text.slice(text.indexOf('\r\n\r\n') + 4) }
  }

  const good = [
    'x',
    'api',
    'a.example',
    'A.Example:8000',
    'x:',
    'a_b',
    '127.0.0.1:80',
    '[::1]',
    '[::1]:80',
    "!$&'()*+;=~-",
    'a,b',
    '%c3%a9.example',
  ]
  test.each(good)('may be %s', async (host) => {
    expect(await sendHead(['GET /health HTTP/1.1', `Host: ${host}`])).toEqual({
      status: 200,
      body: `{"status":"ok","version":"${version}"}`,
    })
  })

  const bad = [
    'a b',
    'a/b',
    'a/',
    'a?b',
    'a#b',
    'u@a',
    '',
    ' ',
    'ü',
    'a\\b',
    '<x>',
    'a"b',
    'a^b',
    'a|b',
    'http://x',
    'a:b',
    'a:1:2',
    '[::1',
    '::1',
    'a%zz',
    '/public',
    'a\tb',
    'a:999999',
  ]
  test.each(bad)('%p is none: 400, and the path is what it was', async (host) => {
    const { token } = await newUser()
    for (const target of ['/api/tasks', '/public/api/tasks', 'http://a.example/public/api/tasks'])
      expectBadRequest(await sendHead(request(target, token, [`Host: ${host}`])))
  })

  test('is needed, exactly once', async () => {
    const { token } = await newUser()
    const target = '/public/api/tasks'
    for (const hosts of [
      ['Host: a', 'Host: b'],
      ['Host: a b', 'Host: a'],
    ])
      expectBadRequest(await sendHead(request(target, token, hosts)))
    const [, ...rest] = request(target, token, [])
    expectBadRequest(await sendHead([`GET ${target} HTTP/1.0`, ...rest]))
    for (const path of ['/health/x', '/ready?', '/readyy', '/health?/api/tasks'])
      expectBadRequest(await sendHead([`GET ${path} HTTP/1.0`, ...rest]))
    // Without one in HTTP/1.1 the runtime answers by itself.
    expect((await sendHead(request(target, token, []))).status).toBe(400)
  })

  test.each(['/health', '/ready'])(
    'is not needed by a load balancer that asks for %s',
    async (path) => {
      expect((await sendHead([`GET ${path} HTTP/1.0`])).status).toBe(200)
    },
  )

  test('does not move the path of an absolute target, whatever host that names', async () => {
    const { token } = await newUser()
    const statuses = async (target: string) =>
      (await sendHead(request(target, token, ['Host: a.example']))).status
    for (const authority of ['a.example', 'x', 'u@x', 'x:80', 'evil.example/public'])
      expect(await statuses(`http://${authority}/public/api/tasks`)).toBe(404)
    expect(await statuses('http://a.example/api/tasks')).toBe(200)
    for (const target of ['//public/api/tasks', '/public//api/tasks', 'http:///public/api/tasks'])
      expect(await statuses(target)).toBe(404)
  })

  const request = (target: string, token: string, hosts: string[]) => [
    `GET ${target} HTTP/1.1`,
    ...hosts,
    `Authorization: Bearer ${token}`,
    'X-Request-Id: host-test',
  ]

  function expectBadRequest({ status, body }: { status: number; body: string }): void {
    expect({ status, body: JSON.parse(body) as object }).toEqual({
      status: 400,
      body: {
        detail: 'The Host header is missing, or is not the name of a host',
        code: 'bad_request',
        request_id: 'host-test',
      },
    })
  }
})

describe('failures of ours', () => {
  const broken = (error: unknown) =>
    startApi({
      over: databaseThat(async () => {
        throw error
      }),
    })

  test('an unexpected error says nothing of itself; the log does, under the same id', async () => {
    const failing = broken(new Error('column "secret_plan" of relation "tasks" at 10.0.0.7'))
    const { token } = await newUser()
    const answer = await failing.request('GET', '/api/tasks', {
      token,
      headers: { origin: frontEnd },
    })
    expectFailure(answer, 'internal_error')
    expect(answer.text).not.toContain('secret_plan')
    const logged = failing.lines.map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(logged.find(({ msg }) => msg === 'request failed')).toMatchObject({
      request_id: answer.headers.get('x-request-id'),
      route: '/api/tasks',
      err: { message: 'column "secret_plan" of relation "tasks" at 10.0.0.7' },
    })
    await failing.stop()
  })

  test.each([
    ['an error that names a status', Object.assign(new Error('teapot'), { status: 418 })],
    ['something that is no error', 'just text'],
    [
      'an error with a response of its own',
      Object.assign(new Error('x'), { toResponse: () => new Response('leak') }),
    ],
  ])('%s is still 500', async (_, error) => {
    const failing = broken(error)
    const { token } = await newUser()
    const answer = await failing.request('GET', '/api/tasks', {
      token,
      headers: { origin: frontEnd },
    })
    expectFailure(answer, 'internal_error')
    await failing.stop()
  })

  test('what not even the framework can catch is 500 in the same envelope', async () => {
    const failing = broken(undefined)
    const { token } = await newUser()
    const { status, headers, body } = await failing.request('GET', '/api/tasks', { token })
    expect(status).toBe(500)
    expect(headers.get('content-type')).toBe('application/json')
    expect(body).toEqual({
      detail: failures.internal_error.detail,
      code: 'internal_error',
      request_id: headers.get('x-request-id'),
    })
    await failing.stop()
  })

  test('the database being away is 503, with when to come back', async () => {
    const failing = broken(new DatabaseUnavailable('ECONNREFUSED 10.0.0.7:5432'))
    const { token } = await newUser()
    for (const [method, path] of [
      ['GET', '/api/tasks'],
      ['GET', '/ready'],
      ['DELETE', '/api/tasks/1'],
    ] as const) {
      const answer = await failing.request(method, path, { token, headers: { origin: frontEnd } })
      expectFailure(answer, 'database_unavailable')
      expect(answer.headers.get('retry-after')).toBe('1')
      expect(answer.text).not.toContain('10.0.0.7')
    }
    const { status, body } = await failing.request('GET', '/health')
    expect({ status, body }).toEqual({ status: 200, body: { status: 'ok', version } })
    await failing.stop()
  })
})
