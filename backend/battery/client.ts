import type { RequestOptions } from '../tests/support/api.ts'
import type { Report } from './report.ts'

/** An answer that was judged. `lost`: there was none, and the request may have been done or not. */
export type Outcome<Body> =
  { status: number; headers: Headers; body: Body; isRepeated?: boolean } | 'lost'

/** A stretch of time, on `performance.now()`. */
export type Span = { from: number; until: number }
export const never: Span = { from: Infinity, until: -Infinity }

/**
 * What a fault excuses, by when the request began: that a server says to come back, and that there is
 * no answer.
 */
export type Excuses = { unavailable: (origin: string) => Span; cut: Span }

type Failure = { code?: string; detail?: string; request_id?: string }

export type Client = ReturnType<typeof createClient>

const longestAnswer = 15_000 // ms; longer is a hang
const longestWrite = 60_000 // ms, with all its repetitions
const betweenAttempts = 100 // ms, if no Retry-After says otherwise

/**
 * Judges answers, by what clients must put up with at that time.
 *
 * @param whyFailed tells the cause of a failure from its request's id, if it can be known
 */
function createJudge(report: Report, whyFailed: (requestId: string) => string | undefined) {
  let excuses: Excuses = { unavailable: () => never, cut: never }
  const past: Excuses[] = []
  const lastUnavailable = new Map<string, number>()
  const isIn = (time: number, { from, until }: Span) => time >= from && time <= until

  async function causeOf({ request_id = '' }: Failure): Promise<string> {
    await Bun.sleep(100) // the log may come after the answer
    return whyFailed(request_id) ?? 'the log does not say why'
  }

  return {
    excuse(next: Excuses): void {
      excuses = next
    },
    /** A server is killed: what is sent until it is back need not be answered. */
    excuseCuts(until = Infinity): void {
      excuses = { unavailable: () => never, cut: { from: -Infinity, until } }
    },
    /** Lets the excuse hold for what began under it and is answered under the next one. */
    keepExcuse(): void {
      past.push(excuses)
    },
    /** When the last request to a server began that was answered with 503. */
    lastUnavailable: (origin: string) => lastUnavailable.get(origin) ?? -Infinity,

    silence(what: string, began: number, { name, message }: Error): void {
      if (name === 'TimeoutError') report.violation(`${what}: no answer in ${longestAnswer} ms`)
      else if (!isIn(began, excuses.cut)) report.violation(`${what} was cut off: ${message}`)
    },
    inProgress(what: string, { headers }: Response, { code }: Failure): void {
      if (code !== 'idempotency_in_progress' || !headers.get('retry-after'))
        report.violation(`${what}: 409 ${code}`)
    },
    async unavailable(
      what: string,
      { origin, began }: { origin: string; began: number },
      { headers }: Response,
      body: Failure,
    ): Promise<void> {
      lastUnavailable.set(origin, Math.max(lastUnavailable.get(origin) ?? 0, began))
      const excuse = excuses.unavailable(origin)
      const wasExcused = past.some(({ unavailable }) => isIn(began, unavailable(origin)))
      const { code = '', detail, request_id } = body
      if (!wasExcused && !isIn(began, excuse)) {
        const since = Math.round(began - excuse.until)
        const cause = await causeOf(body)
        report.violation(`${what}: 503 ${code}, ${since} ms after the last excuse: ${cause}`)
      }
      if (
        !/^(database|auth)_unavailable$/.test(code) ||
        !detail ||
        request_id !== headers.get('x-request-id') ||
        !/^[1-9]\d*$/.test(headers.get('retry-after') ?? '')
      )
        report.violation(`${what}: 503 ${JSON.stringify(body)}, not as the contract says`)
    },
    async wrong(what: string, { status }: Response, text: string, body: Failure): Promise<void> {
      report.count('wrong answers')
      report.violation(`${what}: ${status} ${text.slice(0, 300)}: ${await causeOf(body)}`)
    },
  }
}

/** Sends requests as a good client does, and judges every answer. */
export function createClient(
  report: Report,
  whyFailed: (requestId: string) => string | undefined = () => undefined,
) {
  const judge = createJudge(report, whyFailed)
  report.count('requests answered', 0)

  /**
   * Sends one request. An answer that no rule allows is a violation.
   *
   * @param expected the statuses that are right besides 2xx
   */
  async function ask<Body>(
    origin: string,
    method: string,
    path: string,
    { token = '', json, headers = {} }: RequestOptions = {},
    expected: readonly number[] = [],
  ): Promise<Outcome<Body>> {
    const began = performance.now()
    const what = `${method} ${path}`
    let response: Response
    let text: string
    try {
      const authorization = `Bearer ${token}`
      response = await fetch(origin + path, {
        method,
        headers: { authorization, 'content-type': 'application/json', ...headers },
        ...(json !== undefined && { body: JSON.stringify(json) }),
        signal: AbortSignal.timeout(longestAnswer),
      })
      text = await response.text()
    } catch (error) {
      judge.silence(what, began, error as Error)
      return 'lost'
    }
    report.count('requests answered')
    const { status } = response
    const body = parse(text) as Body
    const failure = (body ?? {}) as Failure
    if (status === 503) await judge.unavailable(what, { origin, began }, response, failure)
    else if (status === 409 && !expected.includes(409)) judge.inProgress(what, response, failure)
    else if (!response.ok && !expected.includes(status))
      await judge.wrong(what, response, text, failure)
    return { status, headers: response.headers, body }
  }

  /**
   * Sends a write under an Idempotency-Key until it is answered, as often as it takes. The answer says
   * if it was repeated: nobody knows what became of the earlier attempts.
   */
  async function write<Body>(
    origin: () => string,
    method: string,
    path: string,
    options: RequestOptions,
    expected: readonly number[] = [],
  ): Promise<Outcome<Body>> {
    const headers = { ...options.headers, 'idempotency-key': crypto.randomUUID() }
    const giveUpAt = performance.now() + longestWrite
    for (let isRepeated = false; performance.now() < giveUpAt; isRepeated = true) {
      const outcome = await ask<Body>(origin(), method, path, { ...options, headers }, expected)
      if (outcome !== 'lost' && outcome.status < 500 && !isInProgress(outcome))
        return { ...outcome, isRepeated }
      const retryAfter = outcome === 'lost' ? null : outcome.headers.get('retry-after')
      await Bun.sleep(retryAfter === null ? betweenAttempts : Number(retryAfter) * 1000)
    }
    report.violation(`${method} ${path}: not done within ${longestWrite} ms`)
    return 'lost'
  }

  return { ...judge, ask, write }
}

function isInProgress({ status, body }: { status: number; body: unknown }): boolean {
  return status === 409 && (body as Failure).code === 'idempotency_in_progress'
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
