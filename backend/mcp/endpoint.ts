import type { Asked } from '../auth/current-user.ts'
import { expectScope } from '../auth/scopes.ts'
import type { Bearer } from '../auth/tokens.ts'
import { parseBody, readBytes } from '../http/body.ts'
import { rememberCode, type TellFailure } from '../http/failure-log.ts'
import { ApiError, failures } from '../http/failures.ts'
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
import type { ToolResult, View } from './server.ts'
import { tools, type Tool, type ToolParts } from './tools.ts'

export type McpOptions = ToolParts & {
  /** What a client is told of whatever was thrown. */
  translate: (error: unknown) => ApiError
  tellFailure: TellFailure
}

/** Who sent a message, and with which request. */
type Caller = Pick<Bearer, 'userId' | 'scopes'> & { request: Request; requestId: string }

export type Mcp = ReturnType<typeof createMcp>

/** Answers what agents send: messages of MCP, in which they call the tools. */
export function createMcp({ translate, tellFailure, ...parts }: McpOptions) {
  /** A refusal is for the agent to read, a fault for our log. */
  function explain(error: unknown, { request, requestId }: Caller): ToolResult {
    const failure = translate(error)
    const { code, message: detail, current } = failure
    rememberCode(request, code)
    if (failures[code].status >= 500)
      tellFailure({ requestId, route: '/mcp', failure, cause: error })
    const known = current === undefined ? '' : `,"current":${current}`
    const said = JSON.stringify({ detail, code }).slice(0, -1)
    return { json: `${said}${known}}`, isError: true }
  }

  function viewOf(caller: Caller): View {
    const { userId, scopes } = caller
    return {
      tools: tools.filter(({ scope }) => scopes === undefined || scopes.includes(scope)),
      async call(tool, given) {
        try {
          const { user_id: named = userId } = given
          if (named !== userId) throw new ApiError('wrong_user')
          return { json: await tool.run(parts, userId, given), isError: false }
        } catch (error) {
          return explain(error, caller)
        }
      },
    }
  }

  /** @throws ApiError 403 `insufficient_scope`, 413 */
  return async function answer(caller: Caller): Promise<Answer> {
    const { request } = caller
    const bytes = await readBytes(request)
    let message: unknown
    try {
      message = parseBody(request, bytes)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (error.code === 'unsupported_media_type') return refusal(415, invalidRequest)
      return refusal(400, error.code === 'malformed_json' ? parseError : invalidRequest)
    }
    if (!isMessage(message)) return refusal(400, invalidRequest)
    // The SDK would keep the answer open, for news that never come.
    if (message.method === 'subscriptions/listen') return refusal(404, methodNotFound, message.id)
    const tool = toolOf(message)
    if (tool) expectScope(caller, tool.scope)
    // Loaded when the first message comes: it takes half a second and 26 MB.
    const { serveMessage } = await import('./server.ts')
    return serveMessage(request, message, viewOf(caller))
  }
}

/** A request or a notification. An answer would be one to a question that was never asked. */
function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && 'method' in value && !Array.isArray(value)
}

function toolOf({ method, params }: Message): Tool | undefined {
  if (method !== 'tools/call' || typeof params !== 'object' || params === null) return undefined
  return tools.find(({ name }) => 'name' in params && params.name === name)
}

/** A request to the route with this contract, and what answers it. */
type Call<Contract> = Asked<Contract> & { mcp: Mcp }

export async function answerMessage({
  mcp,
  userId,
  scopes,
  request,
  set,
}: Call<typeof contracts.answerMessage>): Promise<McpAnswer | undefined> {
  const requestId = String(set.headers['x-request-id'])
  const { status, json } = await mcp({ userId, scopes, request, requestId })
  if (json !== undefined) return jsonResponse<McpAnswer>(set, json, status)
  set.status = status
  return undefined
}
