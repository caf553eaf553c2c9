import type { Task } from '../../tasks/schemas.ts'
import { newUser, secret } from '../../tests/support/api.ts'
import { owner } from '../../tests/support/postgres.ts'
import { repository } from '../../tests/support/server.ts'
import { createConformance, type Answer, type OpenApiDocument } from '../openapi.ts'
import type { Report } from '../report.ts'
import { bytesOf, exchange, type Exchange, type ExchangeOptions, type Message } from './wire.ts'

export type User = { id: string; token: string }

/** What stands in everything that the bystander owns, and in no answer to anybody else. */
export const bystanderMark = 'only-the-bystander-sees-this'

/** What would tell of the inside. The answer to an error repeats nothing of its request. */
const internals = [
  /\n\s+at /,
  /node_modules|bunfs|\.ts\b/,
  /elysia|postgres|typebox|pgbouncer|sqlstate/i,
  /\b(TypeError|SyntaxError|RangeError|ReferenceError)\b/,
  /\b(select|insert into|update|delete from)\b.*\b(from|values|set|where)\b/i,
]
const secrets = [secret, owner.password, owner.name, repository]

/** What the runtime itself says to bytes that are no HTTP, before any of our code runs. */
const runtimeStatuses = [400, 413, 414, 417, 431, 501, 505]

/** Those that the runtime knows, and we answer. */
export const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

export type Probe = Awaited<ReturnType<typeof createProbe>>

/**
 * Sends requests that are wrong in some way, and holds each answer to what must always be so.
 *
 * @param figure what its requests are counted as
 */
export async function createProbe(
  origin: string,
  report: Report,
  figure: 'bad inputs tried' | 'isolation cases',
) {
  const port = Number(new URL(origin).port)
  const document = (await (await fetch(`${origin}/docs/json`)).json()) as OpenApiDocument
  const conformance = createConformance(document)
  report.count('5xx from bad input', 0)

  /** What is wrong with an answer, whatever was asked. */
  function problemsOf(method: string, target: string, answer: Answer): string[] {
    const { status, headers, text } = answer
    const everything = `${[...headers].join('\n')}\n\n${text}`
    const leaked = [...secrets, bystanderMark].filter((word) => everything.includes(word))
    const problems = leaked.map((word) => `it tells ${word}`)
    if (!headers.has('x-request-id')) {
      report.count('answers by the runtime itself')
      const isBare = text === '' && runtimeStatuses.includes(status)
      return isBare ? problems : [...problems, 'it is neither ours nor a bare refusal']
    }
    if (status >= 500) {
      report.count('5xx from bad input')
      problems.push('the status is 5xx')
    }
    if (status >= 400) {
      const { current: _, ...said } = parsed(text)
      problems.push(
        ...internals
          .filter((inside) => inside.test(JSON.stringify(said)))
          .map((inside) => `it tells of the inside: ${inside}`),
      )
      const isEnvelope =
        typeof said['detail'] === 'string' &&
        typeof said['code'] === 'string' &&
        said['request_id'] === headers.get('x-request-id') &&
        headers.get('content-type') === 'application/json'
      if (method !== 'HEAD' && !isEnvelope) problems.push('an error is not in the envelope')
    }
    const path = pathOf(target)
    if (path === undefined || path === '/docs' || path.startsWith('/docs/')) return problems
    // The document describes the API, and not how it is told to front ends of another shape.
    if (path.startsWith('/compat/')) return problems
    report.count('answers checked against the OpenAPI document')
    return [...problems, ...conformance.problems(method, path, answer)]
  }

  function judge(what: string, method: string, target: string, answer: Answer): void {
    for (const problem of problemsOf(method, target, answer))
      report.violation(
        `${what}: ${problem}. ${method} ${shortened(target)} was answered ${answer.status} ${shortened(answer.text)}`,
      )
  }

  /** Sends a request that is whole, and gives its answer; none where the runtime hung up. */
  async function attempt(
    what: string,
    message: Message,
    { expected }: { expected?: number[] } = {},
  ): Promise<Answer | undefined> {
    const { method = 'GET', target } = message
    const { answers, ending } = await raw(what, bytesOf(message), { to: [method] })
    const [answer] = answers
    if (!answer) {
      if (ending === 'closed' && !methods.includes(method))
        report.count('unknown methods hung up on')
      else if (ending === 'closed')
        report.violation(`${what}: ${method} ${shortened(target)} was not answered`)
      return undefined
    }
    judge(what, method, target, answer)
    if (expected && !expected.includes(answer.status))
      report.violation(
        `${what}: ${method} ${shortened(target)} was answered ${answer.status} ${shortened(answer.text)} and not ${expected.join(' or ')}`,
      )
    return answer
  }

  /** Sends bytes that may be no request at all. */
  async function raw(
    what: string,
    bytes: string | Uint8Array,
    options: ExchangeOptions = {},
  ): Promise<Exchange> {
    report.count(figure)
    const exchanged = await exchange(port, bytes, options)
    if (exchanged.ending === 'late' && !options.until)
      report.violation(`${what}: no answer within the deadline`)
    return exchanged
  }

  /** The ids of a user's tasks. */
  async function idsOf(user: User): Promise<number[]> {
    const read = await fetch(`${origin}/api/tasks`, { headers: bearer(user) })
    return ((await read.json()) as Task[]).map(({ id }) => id)
  }

  /** Sends a request that nothing is wrong with, and is no case. */
  async function ask(message: Message): Promise<Answer> {
    const { answers } = await exchange(port, bytesOf(message), { to: [message.method ?? 'GET'] })
    if (!answers[0] || answers[0].status >= 300)
      throw new Error(`${message.target} was answered ${answers[0]?.status} ${answers[0]?.text}`)
    return answers[0]
  }

  return { port, conformance, report, attempt, raw, judge, ask, idsOf }
}

/**
 * The path as the server reads it: `\\` is `/`, `..` takes a segment away, and `#` is nothing special.
 * None where it cannot be told, and neither can a route.
 */
function pathOf(target: string): string | undefined {
  if (!target.startsWith('/') && !target.startsWith('http://')) return undefined
  return URL.parse(target.replaceAll('#', '%23'), 'http://localhost')?.pathname
}

export const bearer = ({ token }: User) => ({ authorization: `Bearer ${token}` })

/** A user with one task. */
export async function userWithTask(probe: Probe, title = 'a task'): Promise<User & { task: Task }> {
  const user = await newUser()
  const created = await probe.attempt('a task to begin with', {
    method: 'POST',
    target: '/api/tasks',
    headers: bearer(user),
    body: JSON.stringify({ title }),
  })
  return { ...user, task: JSON.parse(created!.text) as Task }
}

/** A path of the document's, about a task, with the user in it or without. */
export function pathFor(pattern: string, id: number | string, user?: User): string {
  const path = pattern.replace('{id}', String(id))
  return user ? path.replace('/api/', `/api/${encodeURIComponent(user.id)}/`) : path
}

/** Does something with each, several at a time. */
export async function each<Item>(
  items: Iterable<Item>,
  action: (item: Item) => Promise<void>,
  together = 16,
): Promise<void> {
  const queue = items[Symbol.iterator]()
  async function work(): Promise<void> {
    for (let next = queue.next(); !next.done; next = queue.next()) await action(next.value)
  }
  await Promise.all(Array.from({ length: together }, work))
}

export function shortened(text: string): string {
  const shown = JSON.stringify(text)
  return shown.length > 300 ? `${shown.slice(0, 300)}…` : shown
}

export function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}
