import { swagger } from '@elysiajs/swagger'
import { Elysia } from 'elysia'
import favicon from 'swagger-ui-dist/favicon-32x32.png' with { type: 'file' }
import script from 'swagger-ui-dist/swagger-ui-bundle.js' with { type: 'file' }
import style from 'swagger-ui-dist/swagger-ui.css' with { type: 'file' }
import { version } from '../package.json'
import { failures, type FailureCode } from './errors.ts'
import { docsSecurityPolicy } from './security-headers.ts'

const introduction = `Each user's tasks, behind a Better Auth token.

**Trying it out:** in development \`bun run token\` prints a token; paste it under *Authorize*.

**Errors** have one shape everywhere: \`detail\` for a person, \`code\` for a program, \`request_id\` for
asking us about it; a 422 adds \`errors\`, one per field. An unknown path is 404 \`route_not_found\`, a
known path with another method 405 \`method_not_allowed\` with \`Allow\`.

**The same routes answer under \`/api/{user_id}/tasks\`** for front ends that put the user's id into the
path. \`user_id\` must be the token's \`sub\`; any other is 403 \`wrong_user\`.

\`HEAD\` works where \`GET\` does. Every answer carries \`X-Request-Id\`, yours if you send one.`

/**
 * The API's documentation: the OpenAPI document at `/docs/json`, made from the routes, and Swagger
 * UI at `/docs`, with every file served from here.
 */
export function docs() {
  let completed: Document | undefined
  return (
    new Elysia({ name: 'docs' })
      .onAfterHandle(async function completeDocument({ response, set }) {
        if (!isDocument(response)) return undefined
        set.headers['cache-control'] = unkept['cache-control']
        return (completed ??= complete(response))
      })
      .use(
        swagger({
          path: '/docs',
          specPath: '/docs/json',
          provider: 'swagger-ui',
          exclude: [/^\/docs/, /\{user_id\}/],
          documentation: {
            openapi: '3.1.0',
            info: { title: 'Todo API', version, description: introduction },
            tags: [
              { name: 'Tasks' },
              { name: 'Health', description: 'For whoever runs the server' },
            ],
            components: {
              securitySchemes: {
                bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
              },
            },
          } as object,
        }),
      )
      // In place of the plugin's page, whose script comes from a CDN whatever its options say.
      .get('/docs', async () => htmlPage(), hidden)
      .get('/docs/start.js', async () => text(startScript, 'text/javascript'), hidden)
      .get('/docs/swagger-ui.css', async () => file(style, 'text/css'), hidden)
      .get('/docs/swagger-ui-bundle.js', async () => file(script, 'text/javascript'), hidden)
      .get('/docs/favicon.png', async () => file(favicon, 'image/png'), hidden)
  )
}

const hidden = { detail: { hide: true } }

const startScript = `window.ui = SwaggerUIBundle({
  url: '/docs/json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
})
`

function htmlPage(): Response {
  return text(
    `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Todo API</title>
    <link rel="icon" href="/docs/favicon.png" />
    <link rel="stylesheet" href="/docs/swagger-ui.css" />
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="/docs/swagger-ui-bundle.js"></script>
    <script src="/docs/start.js"></script>
  </body>
</html>
`,
    'text/html',
    { 'content-security-policy': docsSecurityPolicy },
  )
}

/** Of what may be another after the next deployment. */
const unkept = { 'cache-control': 'no-cache' }

function text(content: string, type: string, headers: Record<string, string> = {}): Response {
  return new Response(content, {
    headers: { 'content-type': `${type}; charset=utf-8`, ...unkept, ...headers },
  })
}

function file(path: string, type: string): Response {
  return new Response(Bun.file(path), {
    headers: { 'content-type': type, 'cache-control': 'public, max-age=3600' },
  })
}

/** As much of an OpenAPI document as is completed here. */
type Document = { paths: Record<string, Record<string, Operation>> }
type Operation = {
  security?: object[]
  requestBody?: { required: boolean; content: Record<string, Media> }
  responses: Record<string, Answer>
}
type Answer = { description?: string; headers?: Headers; content?: Record<string, Media> }
type Media = {
  schema?: { type?: string; properties?: { code?: { enum?: FailureCode[] }; version?: object } }
  examples?: object
  example?: string
}
type Headers = Record<string, object>

function isDocument(response: unknown): response is Document {
  return typeof response === 'object' && response !== null && 'openapi' in response
}

const sampleRequestId = '0b1c6a52-4e2d-4f0e-9a51-6e6f1f6f8a55'

const header = (description: string, example: string | number) => ({
  description,
  schema: { type: typeof example === 'number' ? 'integer' : 'string' },
  example,
})

const onEveryAnswer: Headers = {
  'X-Request-Id': header('The id of this request in our log', sampleRequestId),
}
const ofApi: Headers = {
  'RateLimit-Policy': header('The quotas that this request counts against', '"user";q=600;w=60'),
  RateLimit: header(
    'What is left of them (`r`), and the seconds until there is more (`t`)',
    '"user";r=599;t=1',
  ),
}
const byStatus: Record<string, Headers> = {
  '401': { 'WWW-Authenticate': header('RFC 6750', 'Bearer error="invalid_token"') },
  '304': { ETag: header('The version that you have', '"7"') },
  '429': { 'Retry-After': header('Seconds to wait before trying again', 1) },
  '503': { 'Retry-After': header('Seconds to wait before trying again', 1) },
}
const ofTasks: Headers = { ETag: header('The version of the task', '"7"') }
const ofNewTasks: Headers = { Location: header('Where the new task is', '/api/tasks/1') }
const ofLists: Headers = {
  ETag: header('Tells whether the list has changed', '"42-Xk2pA9sQ0dLm3bTe"'),
  'X-Total-Count': header('How many tasks match, on all pages', 120),
  'Sync-Token': header(
    'The state that this list shows, for changes and events',
    '42.42.k2pA9sQ0dLm3',
  ),
  Link: header(
    'The next page (RFC 8288); not on the last',
    '</api/tasks?limit=50&cursor=…>; rel="next"',
  ),
}
const ofWrites: Headers = {
  'Idempotent-Replayed': header('`true` on an answer that is given again', 'true'),
}
const meanings: Record<string, string> = {
  '200': 'Done',
  '201': 'Created',
  '204': 'Deleted; no body',
  '304': 'Not changed; no body',
}

/**
 * Adds what the plugin cannot know from the routes: that a token is needed under `/api`, which
 * headers come with which status, an example of every error, and that JSON is the one media type.
 */
function complete(document: Document): Document {
  for (const [path, operations] of Object.entries(document.paths))
    for (const operation of Object.values(operations)) {
      if (path.startsWith('/api/')) operation.security = [{ bearer: [] }]
      if (operation.requestBody)
        operation.requestBody = {
          required: !path.endsWith('/complete'),
          content: onlyJson(operation.requestBody.content),
        }
      if (path.endsWith('/events')) operation.responses['200'] = eventStream
      operation.responses = Object.fromEntries(
        Object.entries(operation.responses).map(([status, answer]) => [
          status,
          completeAnswer(path, status, answer, '409' in operation.responses),
        ]),
      )
    }
  return document
}

function completeAnswer(
  path: string,
  status: string,
  { content }: Answer,
  isWrite: boolean,
): Answer {
  const { schema } = mediaOf(content)
  const codes = schema?.properties?.code?.enum ?? []
  return {
    description: meanings[status] ?? codes.join(', '),
    headers: {
      ...onEveryAnswer,
      ...(path.startsWith('/api/') && ofApi),
      ...byStatus[status],
      ...(codes.includes('idempotency_in_progress') && byStatus['503']),
      ...(schema?.properties?.version && ofTasks),
      ...(schema?.properties?.version && status === '201' && ofNewTasks),
      ...(path === '/api/tasks' && schema?.type === 'array' && ofLists),
      ...(isWrite && status.startsWith('2') && ofWrites),
    },
    ...(content && !['204', '304'].includes(status) && { content: mediaTypes(content, codes) }),
  }
}

/** Not made from a schema: the answer has no end. */
const eventStream: Answer = {
  content: {
    'text/event-stream': {
      schema: { type: 'string' },
      example:
        'id: 42\nevent: task.updated\ndata: {"id":1,"title":"Buy milk","completed":true,"version":2}\n\n',
    },
  },
}

function mediaTypes(content: Record<string, Media>, codes: FailureCode[]): Record<string, Media> {
  return 'text/event-stream' in content ? content : onlyJson(content, codes)
}

function onlyJson(
  content: Record<string, Media>,
  codes: FailureCode[] = [],
): Record<string, Media> {
  const examples = Object.fromEntries(codes.map((code) => [code, { value: exampleOf(code) }]))
  return { 'application/json': { ...mediaOf(content), ...(codes.length > 0 && { examples }) } }
}

function mediaOf(content: Record<string, Media> = {}): Media {
  const [media = {}] = Object.values(content)
  return media
}

function exampleOf(code: FailureCode) {
  const { status, detail } = failures[code]
  const errors = [{ field: 'title', detail: 'is required' }]
  return { detail, code, request_id: sampleRequestId, ...(status === 422 && { errors }) }
}
