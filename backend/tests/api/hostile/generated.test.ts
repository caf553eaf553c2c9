import { expect, test } from 'bun:test'
import * as fc from 'fast-check'
import { bearer, createProbe, parsed, pathFor } from '../../support/probe.ts'

const probe = await createProbe()
const runs = { bodies: 100, queries: 300 } // of each route; a failure prints the seed that repeats it

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 260 }),
  fc.constantFrom(
    '',
    ' ',
    '\0',
    '\ud800',
    '2026-02-29',
    '2024-02-29',
    '09:30',
    'Europe/Paris',
    'high',
  ),
  fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
)
const anything = fc.oneof(text, fc.jsonValue({ maxDepth: 3 }), fc.boolean(), fc.double())
const knownFields = [
  'title',
  'description',
  'completed',
  'priority',
  'tags',
  'due_date',
  'due_time',
  'due_timezone',
]
/** Mostly bodies that a route could take, with some fields as they should be and some as anything. */
const body = fc.oneof(
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        fc.record(
          {
            title: text,
            description: fc.option(text),
            completed: fc.boolean(),
            priority: fc.constantFrom('none', 'low', 'medium', 'high', 'urgent'),
            tags: fc.array(text, { maxLength: 22 }),
            due_date: fc.option(
              fc.constantFrom('2026-03-29', '2026-10-25', '2026-02-30', '9999-12-31'),
            ),
            due_time: fc.option(fc.constantFrom('00:00', '02:30', '23:59', '24:00')),
            due_timezone: fc.option(
              fc.constantFrom('Europe/Paris', 'UTC', 'Pacific/Apia', 'nowhere'),
            ),
          },
          { requiredKeys: [] },
        ),
        fc.dictionary(fc.oneof(fc.constantFrom(...knownFields, '__proto__'), text), anything, {
          maxKeys: 2,
        }),
      )
      .map(([fields, more]) => ({ ...fields, ...more })),
  },
)

const routes = probe.conformance.operations.filter(
  ({ method, path }) => method !== 'GET' && path.startsWith('/api/'),
)
test.each(routes)(
  '$method $path takes of generated bodies what the document says, and gives it back',
  async ({ method, path }) => {
    const { task, ...user } = await probe.userWithTask()
    const property = fc.asyncProperty(body, fc.boolean(), async (value, isUnderUser) => {
      const target = pathFor(path, task.id, isUnderUser ? user : undefined)
      const sent = JSON.stringify(value)
      const message = { method, target, headers: bearer(user), body: sent }
      // A task that was deleted stays in the trash: 404 from then on.
      const answer = await probe.send('a generated body', message)
      if (answer.status >= 300 || answer.text === '') return
      const given = trimmed(JSON.parse(sent))
      expect([sent, probe.conformance.takesBody(method, path, given)]).toEqual([sent, true])
      const answered = parsed(answer.text)
      for (const field of fieldsOf(path))
        if (isObject(given) && field in given && field in answered)
          expect(answered[field]).toEqual(given[field])
    })
    await fc.assert(property, { numRuns: runs.bodies })
  },
)

test('generated values for the parameters of a list, in a dialect too, are taken, or are 422', async () => {
  const user = await probe.userWithTask()
  const known = probe.conformance.parametersOf('GET', '/api/tasks')
  const inDialect = ['offset', 'skip', 'page', 'is_completed']
  const value = fc.oneof(
    text,
    fc.constantFrom(
      'all',
      'true',
      'created',
      '-due_date',
      'desc',
      'high',
      '1',
      '500',
      '501',
      'UTC',
    ),
  )
  const name = fc.constantFrom(...known, ...inDialect, 'tag', 'unknown')
  const property = fc.asyncProperty(
    fc.array(fc.tuple(name, value), { maxLength: 6 }),
    async (query) => {
      const wellFormed = query.map(([key, given]): [string, string] => [key, given.toWellFormed()])
      const parameters = new URLSearchParams(wellFormed).toString()
      for (const list of ['/api/tasks', '/compat/items/api/todos']) {
        const target = `${list}?${parameters}`
        await probe.send('a generated query', { target, headers: bearer(user) }, 200, 422)
      }
    },
  )
  await fc.assert(property, { numRuns: runs.queries })
})

/** The fields that a route takes and gives back as they are. */
function fieldsOf(path: string): string[] {
  if (path.endsWith('/complete')) return ['completed']
  if (path !== '/api/tasks' && path !== '/api/tasks/{id}') return []
  return ['title', 'description', 'completed', 'priority', 'tags']
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** As the server counts a title: without the white space around it. */
function trimmed(value: unknown): unknown {
  return isObject(value) && typeof value['title'] === 'string'
    ? { ...value, title: value['title'].trim() }
    : value
}
