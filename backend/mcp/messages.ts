/** What goes over the wire: JSON-RPC 2.0, one message a request. */

/** Without JSON it has no body. */
export type Answer = { status: number; json?: string | undefined }

/** A message of a client's, as much as is looked at before the SDK does. */
export type Message = { id?: unknown; method?: unknown; params?: unknown }

export const parseError = -32700
export const invalidRequest = -32600
export const methodNotFound = -32601
export const invalidParams = -32602
const internalError = -32603
const ofTransport = -32000
const headerMismatch = -32020
const unsupportedVersion = -32022

/** Every error says one of these, whatever the SDK says: its own sentences repeat what came. */
const sentences: Record<number, string> = {
  [parseError]: 'The body is not JSON in UTF-8',
  [invalidRequest]: 'Send one JSON-RPC 2.0 request or notification, as application/json in UTF-8',
  [methodNotFound]: 'This server has no such method: it has tools, and nothing to subscribe to',
  [invalidParams]: 'The params are not what this method takes; tools/list names every tool',
  [internalError]: 'Something went wrong on our side',
  [ofTransport]:
    'The headers of the request are not those of a protocol version that is spoken here',
  [headerMismatch]:
    'The headers MCP-Protocol-Version, Mcp-Method and Mcp-Name must say what the body says',
  [unsupportedVersion]: 'This server does not speak this protocol version; see data.supported',
}

export function refusal(status: number, code: number, id: unknown = null): Answer {
  return { status, json: writeError(code, id) }
}

/**
 * Gives what the SDK answered, an error in words of our own.
 *
 * @param wasHandled whether a handler of ours took the message. Nothing but its params can have failed before
 *   that, which the SDK (2.4.0) calls an internal error
 */
export async function readAnswer(response: Response, wasHandled: () => boolean): Promise<Answer> {
  const { status } = response
  const json = await response.text()
  if (json === '') return { status }
  const { error, id }: { error?: { code: number; data?: unknown }; id?: unknown } = JSON.parse(json)
  if (error === undefined) return { status, json }
  const isOfParams = error.code === internalError && status === 200 && !wasHandled()
  return { status, json: writeError(isOfParams ? invalidParams : error.code, id, error.data) }
}

/** @param data is passed on if clients need it: to choose a version */
function writeError(code: number, id: unknown, data?: unknown): string {
  const known = code in sentences ? code : internalError
  return JSON.stringify({
    jsonrpc: '2.0',
    id: id ?? null,
    error: {
      code: known,
      message: sentences[known],
      ...(known === unsupportedVersion && { data }),
    },
  })
}
