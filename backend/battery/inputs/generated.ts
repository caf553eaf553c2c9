import * as fc from 'fast-check'
import { bearer, each, parsed, pathFor, userWithTask, type Probe } from './probe.ts'
import type { Message } from './wire.ts'

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

/**
 * Generated bodies on every route with every method that could take one. What is accepted must be
 * what the document says the route takes, and must come back.
 */
export async function tryGeneratedBodies(
  probe: Probe,
  { seed, runs }: { seed: number; runs: number },
) {
  const withBody = probe.conformance.operations.filter(
    ({ method, path }) => method !== 'GET' && path.startsWith('/api/'),
  )
  await each(withBody, async ({ method, path }) => {
    const { task, ...user } = await userWithTask(probe)
    const property = fc.asyncProperty(body, fc.boolean(), async (value, isUnderUser) => {
      const target = pathFor(path, task.id, isUnderUser ? user : undefined)
      const sent = JSON.stringify(value)
      const message: Message = { method, target, headers: bearer(user), body: sent }
      // A task that was deleted stays in the trash: 404 from then on.
      const answer = await probe.attempt('a generated body', message)
      if (answer === undefined || answer.status >= 300 || answer.text === '') return
      const given: unknown = JSON.parse(sent)
      if (!probe.conformance.takesBody(method, path, trimmed(given)))
        throw new Error(`${sent} was accepted, which the document does not allow`)
      const answered = parsed(answer.text)
      for (const field of ['title', 'description', 'completed', 'priority', 'tags'])
        if (
          method !== 'DELETE' &&
          isObject(given) &&
          field in given &&
          field in answered &&
          takesField(path, field)
        )
          if (!Bun.deepEquals(answered[field], (trimmed(given) as Record<string, unknown>)[field]))
            throw new Error(`${sent} came back as ${answer.text}`)
    })
    const outcome = await fc.check(property, { seed, numRuns: runs })
    if (outcome.failed)
      probe.report.violation(
        `${method} ${path} with a generated body: ${String(outcome.errorInstance)}`,
      )
  })
}

/**
 * Generated values for the parameters that a list knows, several at once and several times, and for
 * those that it knows in a dialect.
 */
export async function tryGeneratedQueries(
  probe: Probe,
  { seed, runs }: { seed: number; runs: number },
) {
  const user = await userWithTask(probe)
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
  const pairs = fc.array(
    fc.tuple(fc.constantFrom(...known, ...inDialect, 'tag', 'unknown'), value),
    {
      maxLength: 6,
    },
  )
  for (const query of fc.sample(pairs, { seed, numRuns: runs })) {
    const wellFormed = query.map(([name, given]): [string, string] => [name, given.toWellFormed()])
    for (const list of ['/api/tasks', '/compat/items/api/todos'])
      await probe.attempt(
        'a generated query',
        { target: `${list}?${new URLSearchParams(wellFormed).toString()}`, headers: bearer(user) },
        { expected: [200, 422] },
      )
  }
}

const takesField = (path: string, field: string) =>
  path === '/api/tasks' ||
  path === '/api/tasks/{id}' ||
  (path.endsWith('/complete') && field === 'completed')

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** As the server counts a title: without the white space around it. */
function trimmed(value: unknown): unknown {
  return isObject(value) && typeof value['title'] === 'string'
    ? { ...value, title: value['title'].trim() }
    : value
}
