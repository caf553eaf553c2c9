import type { Answer, RequestOptions, startApi } from './api.ts'

export type ToolResult = {
  content: { type: string; text: string }[]
  structuredContent: Record<string, unknown>
  isError?: boolean
}
export type Message = {
  result?: Record<string, unknown>
  error?: { code: number; message: string; data?: unknown }
  id?: unknown
}

export const modern = '2026-07-28'
const meta = 'io.modelcontextprotocol/'

/** Requests as clients of this revision put them on the wire, and those of before. */
export function messageOf(era: 'modern' | 'legacy', method: string, params: object = {}) {
  const inMeta = {
    [`${meta}protocolVersion`]: modern,
    [`${meta}clientInfo`]: { name: 'tests', version: '1' },
    [`${meta}clientCapabilities`]: {},
  }
  const isModern = era === 'modern'
  const { name } = params as { name?: string }
  return {
    json: {
      jsonrpc: '2.0',
      id: 1,
      method,
      params: { ...params, ...(isModern && { _meta: inMeta }) },
    },
    headers: {
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': isModern ? modern : '2025-06-18',
      ...(isModern && { 'mcp-method': method, ...(name !== undefined && { 'mcp-name': name }) }),
    },
  }
}

/** Speaks MCP to an API for one bearer, message by message. */
export function speakMcp(
  api: Pick<ReturnType<typeof startApi>, 'request'>,
  token: string | undefined,
) {
  async function ask(
    method: string,
    params: object = {},
    era: 'modern' | 'legacy' = 'modern',
    more: RequestOptions = {},
  ): Promise<Answer<Message>> {
    const { json, headers } = messageOf(era, method, params)
    return api.request<Message>('POST', '/mcp', {
      json,
      ...(token !== undefined && { token }),
      ...more,
      headers: { ...headers, ...more.headers },
    })
  }

  /** @throws Error if the answer has no result of a tool */
  async function call(name: string, args: object = {}, era: 'modern' | 'legacy' = 'modern') {
    const answer = await ask('tools/call', { name, arguments: args }, era)
    const result = answer.body?.result as ToolResult | undefined
    if (!result?.content) throw new Error(`${name}: ${answer.status} ${answer.text}`)
    if (result.content[0]!.text !== JSON.stringify(result.structuredContent))
      throw new Error(`${name}: the text is not the structured content: ${answer.text}`)
    return result
  }

  return { ask, call }
}
