import { newUser } from '../../tests/support/api.ts'
import { bearer, each, methods, pathFor, type Probe } from './probe.ts'

const strangeMethods = [
  'TRACE',
  'CONNECT',
  'QUERY',
  'PROPFIND',
  'PURGE',
  'FOO',
  'get',
  'Post',
  'G=T',
]

const missing = Number.MAX_SAFE_INTEGER

/** Every route with every method: what it does not take is 405, and `Allow` says what it does. */
export async function tryMethods(probe: Probe): Promise<void> {
  const user = await newUser()
  const taken = new Map<string, Set<string>>()
  for (const { method, path } of probe.conformance.operations) {
    const known = taken.get(path) ?? new Set(['OPTIONS'])
    taken.set(path, known.add(method))
    if (method === 'GET') known.add('HEAD')
  }
  const targets = [...taken].flatMap(([path, known]) =>
    (path.startsWith('/api/') ? [undefined, user] : [undefined]).flatMap((under) => {
      const target = pathFor(path, missing, under)
      return [target, `${target}/`].map((spelling) => ({ target: spelling, known }))
    }),
  )
  await each(targets, async ({ target, known }) => {
    const allow = [...known].toSorted().join(', ')
    for (const method of [...methods, ...strangeMethods]) {
      const answer = await probe.attempt('every method', { method, target, headers: bearer(user) })
      const isOurs = answer?.headers.has('x-request-id')
      if (known.has(method) ? answer?.status === 405 : isOurs && answer?.status !== 405)
        probe.report.violation(`${method} ${target} was answered ${answer?.status}`)
      if (answer?.status === 405 && answer.headers.get('allow') !== allow)
        probe.report.violation(`${method} ${target}: Allow is ${answer.headers.get('allow')}`)
      if (answer && !isOurs && methods.includes(method))
        probe.report.violation(`${method} ${target} did not reach us`)
    }
  })
}
