import { afterAll, expect } from 'bun:test'
import { newUser, readConformance, secret, startApi, type TaskBody } from './api.ts'
import type { WireAnswer } from './openapi.ts'
import { owner } from './postgres.ts'
import { everythingOf } from './rows.ts'
import { repository } from './server.ts'
import { bytesOf, exchange, type Exchange, type ExchangeOptions, type Message } from './wire.ts'

export type User = { id: string; token: string }

/** Part of everything that the bystander owns, and of no answer to anybody else. */
const bystanderMark = 'only-the-bystander-sees-this'

/** Texts that would reveal the inside of the server. The answer to an error repeats nothing of its request. */
const internals = [
  /\n\s+at /,
  /node_modules|bunfs|\.ts\b/,
  /elysia|postgres|typebox|pgbouncer|sqlstate/i,
  /\b(TypeError|SyntaxError|RangeError|ReferenceError)\b/,
  /\b(select|insert into|update|delete from)\b.*\b(from|values|set|where)\b/i,
]
const secrets = [secret, owner.password, owner.name, repository, bystanderMark]

/** What the runtime itself says to bytes that are no HTTP, before any of our code runs. */
const runtimeStatuses = [400, 413, 414, 417, 431, 501, 505]

export type Probe = Awaited<ReturnType<typeof createProbe>>

/**
 * Sends requests that are wrong in some way to an API of its own, as bytes, and holds each answer to
 * what must always be so: no 5xx, nothing of the inside, nothing that the OpenAPI document does not
 * declare. After the tests of the file, nothing of a bystander's may have changed.
 */
export async function createProbe() {
  const api = startApi({
    settings: { RATE_LIMIT_PER_USER: 'off', RATE_LIMIT_PER_ADDRESS: 'off' },
  })
  const port = Number(new URL(api.origin).port)
  const conformance = await readConformance()
  const bystander = await newUser()
  await settle(bystander)
  const untouched = await everythingOf(bystander.id)
  afterAll(async () => {
    expect(await everythingOf(bystander.id)).toBe(untouched)
    expect((await api.request('GET', '/ready')).status).toBe(200)
    await api.stop()
  })

  /** Gives the bystander something of everything. */
  async function settle({ token }: User): Promise<void> {
    const fields = { description: bystanderMark, tags: [bystanderMark], due_date: '2026-01-01' }
    const create = async (title: string) => {
      const headers = { 'idempotency-key': `${bystanderMark}-${title}` }
      const json = { title: `${bystanderMark} ${title}`, ...fields }
      return (await api.request<TaskBody>('POST', '/api/tasks', { token, json, headers })).body
    }
    const [, trashed, destroyed] = [await create('1'), await create('2'), await create('3')]
    await api.request('DELETE', `/api/tasks/${trashed.id}`, { token })
    await api.request('DELETE', `/api/tasks/${destroyed.id}?permanent=true`, { token })
  }

  /** What is wrong with an answer, whatever was asked. */
  function problemsOf(method: string, target: string, answer: WireAnswer): string[] {
    const { status, headers, text } = answer
    const everything = `${[...headers].join('\n')}\n\n${text}`
    const problems = secrets
      .filter((word) => everything.includes(word))
      .map((word) => `it tells ${word}`)
    if (!headers.has('x-request-id')) {
      const isBare = text === '' && runtimeStatuses.includes(status)
      return isBare ? problems : [...problems, 'it is neither ours nor a bare refusal']
    }
    if (status >= 500) problems.push('the status is 5xx')
    if (status >= 400) {
      const { current: _, ...said } = parsed(text)
      for (const inside of internals)
        if (inside.test(JSON.stringify(said))) problems.push(`it tells of the inside: ${inside}`)
      // An answer of JSON-RPC has no place for it.
      const hasId = method !== 'HEAD' && !('jsonrpc' in said)
      if (hasId && said['request_id'] !== headers.get('x-request-id'))
        problems.push('its request_id is another one')
    }
    const path = pathOf(target)
    // The root only leads people to the page; it is in no document.
    return path === undefined || path === '/'
      ? problems
      : [...problems, ...conformance.problems(method, path, answer)]
  }

  function judge(what: string, method: string, target: string, answer: WireAnswer): void {
    const problems = problemsOf(method, target, answer)
    if (problems.length > 0) throw new Error(told(what, method, target, answer, problems))
  }

  /**
   * Sends a request that is whole.
   *
   * @param expected the statuses that are right. Default: any that the document declares
   * @throws Error if there is no answer, or one that must not be
   */
  async function send(what: string, message: Message, ...expected: number[]): Promise<WireAnswer> {
    const { method = 'GET', target } = message
    const { answers, ending } = await raw(what, bytesOf(message), { to: [method], target })
    const [answer] = answers
    if (!answer) throw new Error(`${what}: ${method} ${shortened(target)}: ${ending}, no answer`)
    if (expected.length > 0 && !expected.includes(answer.status))
      throw new Error(told(what, method, target, answer, [`not ${expected.join(' or ')}`]))
    return answer
  }

  /** Sends bytes that may be no request at all, and judges what answers there are. */
  async function raw(
    what: string,
    bytes: string | Uint8Array,
    { target = '/api/tasks', ...options }: ExchangeOptions & { target?: string } = {},
  ): Promise<Exchange> {
    const exchanged = await exchange(port, bytes, options)
    await options.until
    if (exchanged.ending === 'late' && !options.until)
      throw new Error(`${what}: no answer within the deadline`)
    for (const [index, answer] of exchanged.answers.entries())
      judge(what, (options.to?.[index] ?? 'GET').toUpperCase(), target, answer)
    return exchanged
  }

  /** A user with one task. */
  async function userWithTask(): Promise<User & { task: TaskBody }> {
    const user = await newUser()
    const json = { title: 'a task' }
    const { body } = await api.request<TaskBody>('POST', '/api/tasks', { ...user, json })
    return { ...user, task: body }
  }

  return {
    api,
    port,
    conformance,
    send,
    raw,
    userWithTask,
    /** The ids of a user's tasks. */
    async idsOf({ token }: User): Promise<number[]> {
      const { body } = await api.request<TaskBody[]>('GET', '/api/tasks', { token })
      return body.map(({ id }) => id)
    },
    /** Somebody else is served in the meantime, a few times over. */
    async serveOthers(): Promise<void> {
      const { token } = bystander
      for (let count = 0; count < 20; count += 1)
        expect((await api.request('GET', '/api/tasks?limit=1', { token })).status).toBe(200)
    },
  }
}

function told(
  what: string,
  method: string,
  target: string,
  { status, text }: WireAnswer,
  problems: string[],
): string {
  return `${what}: ${method} ${shortened(target)} was answered ${status} ${shortened(text)}: ${problems.join('; ')}`
}

/**
 * The path as the server reads it: `\\` is `/`, `..` takes a segment away, and `#` is nothing special.
 * None if it cannot be told, and neither can a route.
 */
function pathOf(target: string): string | undefined {
  if (!target.startsWith('/') && !target.startsWith('http://')) return undefined
  return URL.parse(target.replaceAll('#', '%23'), 'http://localhost')?.pathname
}

export const bearer = ({ token }: User) => ({ authorization: `Bearer ${token}` })

/** A path of the document's; one about tasks with the user in it or without. */
export function pathFor(pattern: string, id: number, user?: User): string {
  const path = pattern.replace('{id}', String(id))
  return user ? path.replace('/api/tasks', `/api/${encodeURIComponent(user.id)}/tasks`) : path
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

function shortened(text: string): string {
  const shown = JSON.stringify(text)
  return shown.length > 300 ? `${shown.slice(0, 300)}…` : shown
}

/** The members of a JSON object; none of anything else. */
export function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}
