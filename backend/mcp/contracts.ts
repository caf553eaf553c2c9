import { Type } from '@sinclair/typebox'
import { t } from 'elysia'
import { Failure } from '../http/failures.ts'
import { scopes } from '../auth/scopes.ts'
import { anyRoute } from '../tasks/contracts.ts'

/** What the route says of itself. What it does is in endpoint.ts. */

const version = t.String({ examples: ['2.0'] })
const id = Type.Unknown({ description: 'Of the message that is answered', examples: [1] })

const McpResult = t.Object({ jsonrpc: version, id, result: Type.Unknown({ examples: [{}] }) })
const McpFailure = t.Object(
  {
    jsonrpc: version,
    id,
    error: t.Object({
      code: Type.Integer({ examples: [-32601] }),
      message: t.String(),
      data: t.Optional(Type.Unknown()),
    }),
  },
  { title: 'McpFailure' },
)

const McpAnswer = t.Union([McpResult, McpFailure], { title: 'McpAnswer' })
export type McpAnswer = typeof McpAnswer.static

const { 401: noToken, 429: tooMany, 500: fault, 503: away } = anyRoute

export const answerMessage = {
  parse: 'none' as const,
  response: {
    200: McpAnswer,
    202: t.Void(),
    400: McpFailure,
    401: noToken,
    403: Failure('insufficient_scope', 'origin_not_allowed'),
    404: McpFailure,
    413: Failure('body_too_large'),
    415: McpFailure,
    429: tooMany,
    500: fault,
    503: away,
  },
  detail: {
    tags: ['Agents'],
    operationId: 'answerMessage',
    summary: 'Talk MCP, the Model Context Protocol',
    description: `One JSON-RPC message a request, over Streamable HTTP and without sessions: revision 2026-07-28, and
those before it that begin with \`initialize\`. The tools list, read, add, change, complete, delete and
restore tasks.`,
    requestBody: {
      required: true,
      content: {
        'application/json': {
          schema: {
            type: 'object' as const,
            examples: [{ jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} }],
          },
        },
      },
    },
  },
}

const ResourceMetadata = t.Object(
  {
    resource: t.String({ description: 'What a token must be for' }),
    authorization_servers: t.Array(t.String(), { description: 'Who issues it' }),
    scopes_supported: t.Array(t.String(), { examples: [[...scopes]] }),
    bearer_methods_supported: t.Array(t.String(), { examples: [['header']] }),
    resource_name: t.String({ examples: ['Todo API'] }),
  },
  { title: 'ResourceMetadata' },
)
export type ResourceMetadata = typeof ResourceMetadata.static

export const describeResource = {
  response: { 200: ResourceMetadata, 404: Failure('route_not_found'), 429: tooMany, 500: fault },
  detail: {
    tags: ['Agents'],
    operationId: 'describeResource',
    summary: 'Where agents get OAuth tokens for /mcp (RFC 9728)',
    description: 'There if `PUBLIC_URL` and `BETTER_AUTH_URL` are set.',
  },
}
