import type { Asked } from '../auth/current-user.ts'
import { expectScope } from '../auth/scopes.ts'
import type { Bearer } from '../auth/tokens.ts'
import { NeedsRoom } from '../db/written.ts'
import type { Answers } from '../http/answers.ts'
import { parseBody, readBytes } from '../http/body.ts'
import { rememberCode, type TellFailure } from '../http/failure-log.ts'
import { ApiError, failures, sentenceOf, type FailureCode } from '../http/failures.ts'
import { jsonResponse } from '../http/responses.ts'
import type * as contracts from './contracts.ts'
import type { McpAnswer } from './contracts.ts'
import {
  invalidRequest,
  methodNotFound,
  parseError,
  refusal,
  type Answer,
  type Message,
} from './messages.ts'
import type { ToolResult } from './server.ts'
import { tools, type Tool, type ToolParts } from './tools.ts'

export type McpOptions = ToolParts & {
  /** What a client is told of whatever was thrown. */
  translate: (error: unknown) => ApiError
  tellFailure: TellFailure
}

/**
 * An answer carries the result of a tool twice, once as text, in which every quotation mark and backslash
 * of JSON is two characters.
 */
const copies = 3

/** What a tool says in place of a detail that speaks of a path or a header. */
const inOtherWords: Partial<Record<FailureCode, string>> = {
  wrong_user: 'user_id names another user than the key or token; leave it out',
  idempotency_in_progress:
    'The first call with this idempotency_key still runs; call again shortly',
  rate_limited: 'Too many calls at once; call again in a second',
  internal_error: 'Something went wrong on our side; tell your user',
}

/** Who sent a message, and with which request. */
type Caller = Pick<Bearer, 'userId' | 'scopes'> & { request: Request; requestId: string }

export type Mcp = ReturnType<typeof createMcp>

/** Answers what agents send: messages of MCP, in which they call the tools. */
export function createMcp({ translate, tellFailure, ...parts }: McpOptions) {
  /** A refusal is for the agent to read, a fault for our log. */
  function explain(error: unknown, { request, requestId }: Caller): ToolResult {
    const failure = translate(error)
    const { code, current } = failure
    const detail = inOtherWords[code] ?? sayWithArguments(failure)
    rememberCode(request, code)
    if (failures[code].status >= 500)
      tellFailure({ requestId, route: '/mcp', failure, cause: error })
    const known = current === undefined ? '' : `,"current":${current}`
    const said = JSON.stringify({ detail, code }).slice(0, -1)
    return { json: `${said}${known}}`, isError: true }
  }

  /**
   * @param message as `readMessage` gives it; if the answer needs room, it may be given again
   * @param most bytes that the answer may have
   * @throws NeedsRoom, and nothing was changed
   */
  return async function answer(caller: Caller, message: Message, most: number): Promise<Answer> {
    const { userId, scopes, request } = caller
    let tooLarge: NeedsRoom | undefined

    async function call(tool: Tool, given: Record<string, unknown>): Promise<ToolResult> {
      try {
        const { user_id: named = userId } = given
        if (named !== userId) throw new ApiError('wrong_user')
        const json = await tool.run(parts, userId, given, Math.floor(most / copies))
        return { json, isError: false }
      } catch (error) {
        if (!(error instanceof NeedsRoom)) return explain(error, caller)
        tooLarge = error // past the SDK, which would answer with it
        return { json: '{}', isError: true }
      }
    }

    const { serveMessage } = await loadServer()
    const allowed = tools.filter(({ scope }) => scopes === undefined || scopes.includes(scope))
    const answered = await serveMessage(request, message, { tools: allowed, call })
    if (tooLarge !== undefined) throw new NeedsRoom(tooLarge.bytes * copies)
    return answered
  }
}

/** Loads it when the first message comes: it takes half a second and 26 MB. */
async function loadServer() {
  return import('./server.ts').catch((error: unknown) => {
    // A process without a free file descriptor cannot read it. The log cannot write what the runtime throws.
    throw new Error(`The code that answers agents could not be loaded: ${String(error)}`)
  })
}

function sayWithArguments({ message, errors: [error] = [] }: ApiError): string {
  return error?.field === 'Idempotency-Key'
    ? sentenceOf({ ...error, field: 'idempotency_key' })
    : message
}

/**
 * Reads a message, or says why it is not one.
 *
 * @throws ApiError 413
 */
async function readMessage(request: Request): Promise<{ message: Message } | { refused: Answer }> {
  const bytes = await readBytes(request)
  try {
    const message = parseBody(request, bytes)
    if (!isMessage(message)) return { refused: refusal(400, invalidRequest) }
    // The SDK would keep the answer open, for news that never comes.
    if (message.method === 'subscriptions/listen')
      return { refused: refusal(404, methodNotFound, message.id) }
    return { message }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    if (error.code === 'unsupported_media_type') return { refused: refusal(415, invalidRequest) }
    const code = error.code === 'malformed_json' ? parseError : invalidRequest
    return { refused: refusal(400, code) }
  }
}

/** A request or a notification. This server asks clients nothing, so they have nothing to answer. */
function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && 'method' in value && !Array.isArray(value)
}

function toolOf({ method, params }: Message): Tool | undefined {
  if (method !== 'tools/call' || typeof params !== 'object' || params === null) return undefined
  return tools.find(({ name }) => 'name' in params && params.name === name)
}

/** A request to the route with this contract, and what answers it. */
type Call<Contract> = Asked<Contract> & { mcp: Mcp; answers: Answers }

/** @throws ApiError 403 `insufficient_scope`, 413 */
export async function answerMessage({
  mcp,
  answers,
  userId,
  scopes,
  request,
  set,
  server,
}: Call<typeof contracts.answerMessage>): Promise<McpAnswer | undefined> {
  const read = await readMessage(request)
  if ('refused' in read) return send(set, read.refused)
  const { message } = read
  const tool = toolOf(message)
  if (tool) expectScope({ scopes }, tool.scope)
  const caller = { userId, scopes, request, requestId: String(set.headers['x-request-id']) }
  const name = `/mcp ${tool?.name}`
  let other: Answer | undefined
  const sent = await answers.send<McpAnswer>(
    { userId, set, request, server, name },
    async function answerWithin(most) {
      const { status, json } = await mcp(caller, message, most)
      if (status === 200 && json !== undefined) return { json, bytes: Buffer.byteLength(json) }
      other = { status, json }
      return undefined
    },
  )
  return other === undefined ? sent : send(set, other)
}

function send(set: Asked<unknown>['set'], { status, json }: Answer): McpAnswer | undefined {
  if (json !== undefined) return jsonResponse<McpAnswer>(set, json, status)
  set.status = status
  return undefined
}
