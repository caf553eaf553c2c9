import { swagger } from '@elysiajs/swagger'
import { Elysia } from 'elysia'
import favicon from 'swagger-ui-dist/favicon-32x32.png' with { type: 'file' }
import script from 'swagger-ui-dist/swagger-ui-bundle.js' with { type: 'file' }
import style from 'swagger-ui-dist/swagger-ui.css' with { type: 'file' }
import { version } from '../../package.json'
import { Failure, failures, sentenceOf, type FailureCode, type FieldError } from '../errors.ts'
import { docsSecurityPolicy, securityHeaders } from '../http/security-headers.ts'

const introduction = `Each user's tasks, behind a Better Auth token.

**Trying it out:** in development \`bun run token\` prints a token; paste it under *Authorize*.

**Errors** have one shape everywhere: \`detail\` for a person, \`code\` for a program, \`request_id\` for
asking us about it; a 422 adds \`errors\`, one per field, and its \`detail\` is the first of them. An unknown path is 404 \`route_not_found\`, a
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
type Document = {
  paths: Record<string, Record<string, Operation>>
  components: { responses?: Record<string, Answer> }
}
type Operation = {
  security?: object[]
  requestBody?: { required: boolean; content: Record<string, Media> }
  responses: Record<string, Answer>
}
type Answer = { description?: string; headers?: object; content?: Record<string, Media> }
type Media = {
  schema?: {
    type?: string
    minProperties?: number
    additionalProperties?: boolean
    properties?: { code?: { enum?: FailureCode[] }; version?: object }
  }
  examples?: object
  example?: string
}

/** One of the answers of an operation, or one that belongs to none and has an empty path. */
type Place = {
  path: string
  status: string
  schema: Media['schema']
  codes: FailureCode[]
  /** Whether the operation takes an `Idempotency-Key`. */
  isWrite: boolean
}

type AnswerHeader = {
  description: string
  example: string | number
  /** Whether an answer has it: `true` for always, `'maybe'` where some of its kind have. */
  on: (place: Place) => boolean | 'maybe'
}

function isDocument(response: unknown): response is Document {
  return typeof response === 'object' && response !== null && 'openapi' in response
}

const sampleRequestId = '0b1c6a52-4e2d-4f0e-9a51-6e6f1f6f8a55'

const isList = ({ path, status }: Place) => path === '/api/tasks' && status === '200'
/** Probes are not; of an answer to no route it is not known. */
const isCounted = ({ path }: Place) => !['/health', '/ready'].includes(path) && 'maybe'
const isTask = ({ path, status, schema }: Place) =>
  path.startsWith('/api/') && status.startsWith('2') && schema?.properties?.version !== undefined

/** Every header of ours, beside those of CORS and of HTTP itself, with the answers that carry it. */
const answerHeaders: Record<string, AnswerHeader> = {
  'X-Request-Id': {
    description: 'The id of this request in our log',
    example: sampleRequestId,
    on: () => true,
  },
  'Cache-Control': {
    description: 'What is behind a token is for its bearer alone; other answers are kept by nobody',
    example: 'private, no-cache',
    on: () => true,
  },
  'X-Content-Type-Options': {
    description: 'The body is what Content-Type says',
    example: securityHeaders['x-content-type-options'],
    on: () => true,
  },
  'Referrer-Policy': {
    description: 'Links tell nobody where they were',
    example: securityHeaders['referrer-policy'],
    on: () => true,
  },
  'Content-Security-Policy': {
    description: 'Shown as a page, an answer loads nothing and is in no frame',
    example: securityHeaders['content-security-policy'],
    on: () => true,
  },
  'Strict-Transport-Security': {
    description: 'Where a trusted proxy says that the request came over TLS',
    example: 'max-age=31536000',
    on: () => 'maybe',
  },
  'RateLimit-Policy': {
    description: 'The quotas that this request counts against, where there are any',
    example: '"address";q=3000;w=60, "user";q=600;w=60',
    on: isCounted,
  },
  RateLimit: {
    description: 'What is left of them (`r`), and the seconds until there is more (`t`)',
    example: '"address";r=2999;t=1, "user";r=599;t=1',
    on: isCounted,
  },
  Vary: {
    description: 'The request headers on which the answer depends',
    example: 'Authorization, Origin',
    on: () => true,
  },
  'WWW-Authenticate': {
    description: 'RFC 6750',
    example: 'Bearer error="invalid_token"',
    on: ({ status }) => status === '401',
  },
  Allow: {
    description: 'The methods that the path takes',
    example: 'GET, HEAD, OPTIONS',
    on: ({ status }) => status === '405',
  },
  'Retry-After': {
    description: 'Seconds to wait before trying again',
    example: 1,
    on: ({ codes }) => {
      const waits = codes.filter(
        (code) => code === 'rate_limited' || 'retryAfter' in failures[code],
      )
      return waits.length > 0 && (waits.length === codes.length || 'maybe')
    },
  },
  ETag: {
    description: 'The version of the task, or of the list',
    example: '"7"',
    on: (place) => isTask(place) || isList(place) || place.status === '304',
  },
  Location: {
    description: 'Where the new task is',
    example: '/api/tasks/1',
    on: (place) => isTask(place) && place.status === '201',
  },
  'X-Total-Count': {
    description: 'How many tasks match, on all pages',
    example: 120,
    on: isList,
  },
  'Sync-Token': {
    description: 'The state that this list shows, for changes and events',
    example: '42.42.k2pA9sQ0dLm3',
    on: isList,
  },
  Link: {
    description: 'The next page (RFC 8288); not on the last',
    example: '</api/tasks?limit=50&cursor=…>; rel="next"',
    on: (place) => isList(place) && 'maybe',
  },
  'Idempotent-Replayed': {
    description: '`true` on an answer that is given again',
    example: 'true',
    on: ({ isWrite, status }) => isWrite && status.startsWith('2') && 'maybe',
  },
  'X-Accel-Buffering': {
    description: 'Tells proxies to pass events on at once',
    example: 'no',
    on: ({ path, status }) => path.endsWith('/events') && status === '200',
  },
}

const meanings: Record<string, string> = {
  '200': 'Done',
  '201': 'Created',
  '204': 'Deleted; no body',
  '304': 'Not changed; no body',
}

/** Answers to what none of the operations describes. `401`: under `/api`, before anything else. */
const besideOperations: Record<string, { path: string; codes: [FailureCode, ...FailureCode[]] }> = {
  '400': { path: '', codes: ['bad_request'] },
  '401': { path: '', codes: ['token_missing', 'token_invalid', 'token_expired'] },
  '403': { path: '/api/{user_id}/tasks', codes: ['wrong_user'] },
  '404': { path: '', codes: ['route_not_found'] },
  '405': { path: '', codes: ['method_not_allowed'] },
  '429': { path: '', codes: ['rate_limited'] },
  '503': { path: '', codes: ['auth_unavailable'] },
}

/**
 * Adds what the plugin cannot know from the routes: that a token is needed under `/api`, which
 * headers come with which status, an example of every error, that JSON is the one media type, and
 * the answers that belong to no route, as components under their status.
 */
function complete(document: Document): Document {
  for (const [path, operations] of Object.entries(document.paths))
    for (const operation of Object.values(operations)) {
      if (path.startsWith('/api/')) operation.security = [{ bearer: [] }]
      if (operation.requestBody) {
        const isOptional = path.endsWith('/complete')
        const content = onlyJson(operation.requestBody.content)
        // Elysia takes `{}` for an optional body that is not there, and never checks it.
        if (isOptional) delete mediaOf(content).schema?.minProperties
        // Elysia closes a schema when it compiles it, and then drops other fields all the same.
        delete mediaOf(content).schema?.additionalProperties
        operation.requestBody = { required: !isOptional, content }
      }
      if (path.endsWith('/events')) operation.responses['200'] = eventStream
      const isWrite = '409' in operation.responses
      operation.responses = Object.fromEntries(
        Object.entries(operation.responses).map(([status, answer]) => [
          status,
          completeAnswer({ path, status, isWrite }, answer),
        ]),
      )
    }
  document.components.responses = Object.fromEntries(
    Object.entries(besideOperations).map(([status, { path, codes }]) => {
      const schema: object = Failure(...codes)
      const content = { 'application/json': { schema } }
      return [status, completeAnswer({ path, status, isWrite: false }, { content })]
    }),
  )
  return document
}

function completeAnswer(
  given: Pick<Place, 'path' | 'status' | 'isWrite'>,
  { content }: Answer,
): Answer {
  const { schema } = mediaOf(content)
  const codes = schema?.properties?.code?.enum ?? []
  return {
    description: meanings[given.status] ?? codes.join(', '),
    headers: headersOf({ ...given, schema, codes }),
    ...(content &&
      !['204', '304'].includes(given.status) && { content: mediaTypes(content, codes) }),
  }
}

function headersOf(place: Place): object {
  return Object.fromEntries(
    Object.entries(answerHeaders)
      .map(([name, { on, ...header }]) => ({ name, header, presence: on(place) }))
      .filter(({ presence }) => presence !== false)
      .map(({ name, header: { description, example }, presence }) => [
        name,
        {
          description,
          required: presence === true,
          schema: { type: typeof example === 'number' ? 'integer' : 'string' },
          example,
        },
      ]),
  )
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

const sampleErrors: Partial<Record<FailureCode, FieldError>> = {
  malformed_json: { field: 'body', detail: 'must be JSON (RFC 8259) in UTF-8' },
  idempotency_key_reused: { field: 'Idempotency-Key', detail: 'was used for another request' },
}

function exampleOf(code: FailureCode) {
  const { status, detail } = failures[code]
  if (status !== 422) return { detail, code, request_id: sampleRequestId }
  const error = sampleErrors[code] ?? { field: 'title', detail: 'is required' }
  return { detail: sentenceOf(error), code, request_id: sampleRequestId, errors: [error] }
}
