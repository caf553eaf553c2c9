import {
  createMcpHandler,
  isLegacyRequest,
  ProtocolError,
  Server,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server'
import { version } from '../../package.json'
import { readAnswer, invalidParams, type Answer, type Message } from './messages.ts'
import type { Tool } from './tools.ts'

/** What a tool gives to its caller. */
export type ToolResult = { json: string; isError: boolean }

/** One bearer's view of the tools. */
export type View = {
  tools: readonly Tool[]
  call: (tool: Tool, given: Record<string, unknown>) => Promise<ToolResult>
}

const instructions = `The user's to-do list. Ids of tasks come from list_tasks. due_date is YYYY-MM-DD, due_time
HH:MM in due_timezone. What is deleted is in the trash for 30 days. Ask before you delete.`

/**
 * Answers one message with the SDK. A server is made for each and keeps nothing, so that any process
 * may take the next one. Before revision 2026-07-28, too, the answer is a body of JSON: by itself the
 * SDK would send a stream with one event there.
 */
export async function serveMessage(
  request: Request,
  message: Message,
  view: View,
): Promise<Answer> {
  const headers = new Headers(request.headers)
  // All clients take JSON, whatever they accept; the SDK would insist on a stream, too.
  headers.set('accept', 'application/json, text/event-stream')
  const asked = new Request('http://localhost/mcp', { method: 'POST', headers })
  let wasHandled = false
  const makeServer = () =>
    serverOf(view, () => {
      wasHandled = true
    })
  if (!(await isLegacyRequest(asked, message))) {
    const handler = createMcpHandler(makeServer, { legacy: 'reject' })
    const response = await handler.fetch(asked, { parsedBody: message })
    return readAnswer(response, () => wasHandled)
  }
  const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true })
  const server = makeServer()
  await server.connect(transport)
  try {
    const response = await transport.handleRequest(asked, { parsedBody: message })
    return await readAnswer(response, () => wasHandled)
  } finally {
    await server.close()
  }
}

/** @param onHandled is told when a handler of it takes a message */
function serverOf({ tools, call }: View, onHandled: () => void): Server {
  const server = new Server(
    { name: 'todo-api', title: 'Todo API', version },
    { capabilities: { tools: {} }, instructions },
  )
  server.setRequestHandler('tools/list', async function listTools() {
    onHandled()
    return {
      tools: tools.map(({ name, description, inputSchema, annotations }) => ({
        name,
        title: annotations.title,
        description,
        inputSchema,
        annotations,
      })),
    }
  })
  server.setRequestHandler('tools/call', async function callTool({ params }) {
    onHandled()
    const tool = tools.find(({ name }) => name === params.name)
    if (tool === undefined) throw new ProtocolError(invalidParams, 'no such tool')
    const { json, isError } = await call(tool, params.arguments ?? {})
    const structuredContent: Record<string, unknown> = JSON.parse(json)
    return {
      // Not as PostgreSQL wrote it, which puts spaces into some of it: the same as the other.
      content: [{ type: 'text', text: JSON.stringify(structuredContent) }],
      structuredContent,
      ...(isError && { isError }),
    }
  })
  return server
}
