import { expect, test } from 'bun:test'
import { newUser } from '../../support/api.ts'
import { bearer, createProbe, each, pathFor } from '../../support/probe.ts'
import { bytesOf } from '../../support/wire.ts'

const probe = await createProbe()

/** Those that the runtime knows, and we answer. */
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
/** What the runtime may hang up on. */
const strange = ['TRACE', 'CONNECT', 'QUERY', 'PROPFIND', 'PURGE', 'FOO', 'get', 'Post', 'G=T']

test('a method that a path does not take is 405, and Allow says what it takes', async () => {
  const user = await newUser()
  const paths = Map.groupBy(probe.conformance.operations, ({ path }) => path)
  const targets = [...paths].flatMap(([path, operations]) => {
    const known = new Set(['OPTIONS', ...operations.map(({ method }) => method)])
    if (known.has('GET')) known.add('HEAD')
    return (path.startsWith('/api/tasks') ? [undefined, user] : [undefined])
      .map((under) => pathFor(path, Number.MAX_SAFE_INTEGER, under))
      .flatMap((target) => [target, `${target}/`])
      .map((target) => ({ target, known }))
  })
  await each(targets, async ({ target, known }) => {
    for (const method of [...methods, ...strange]) {
      const what = `${method} ${target}`
      const bytes = bytesOf({ method, target, headers: bearer(user) })
      const [answer] = (await probe.raw(what, bytes, { to: [method], target })).answers
      const isOurs = answer?.headers.has('x-request-id') ?? false
      if (methods.includes(method)) expect([what, isOurs]).toEqual([what, true])
      if (isOurs) expect([what, answer!.status === 405]).toEqual([what, !known.has(method)])
      if (answer?.status === 405)
        expect([what, answer.headers.get('allow')]).toEqual([
          what,
          [...known].toSorted().join(', '),
        ])
    }
  })
})
