import {
  Failure,
  failures,
  sentenceOf,
  type FailureCode,
  type FieldError,
} from '../http/failures.ts'
import {
  headersOf,
  sampleRequestId,
  type AnswerSchema,
  type Place,
  type RouteHeader,
} from './headers.ts'

/** As much of an OpenAPI document as is completed here. */
export type Document = {
  paths: Record<string, Record<string, Operation>>
  components: { responses?: Record<string, Answer> }
}
type Operation = RouteFacts & {
  security?: object[]
  requestBody?: { required: boolean; content: Record<string, Media> }
  responses: Record<string, Answer>
}
/** What a route says in its `detail` for this document, and the plugin does not know. */
type RouteFacts = {
  /** What some answers have besides what is made of their schemas. */
  'x-answers'?: Record<
    string,
    { headers?: Record<string, RouteHeader>; content?: Answer['content'] }
  >
  'x-optional-body'?: boolean
  /** It never counts against a quota. */
  'x-uncounted'?: boolean
}
type Answer = { description?: string; headers?: object; content?: Record<string, Media> }
type Media = {
  schema?: AnswerSchema & { minProperties?: number; additionalProperties?: boolean }
  examples?: object
  example?: string
}

export function isDocument(response: unknown): response is Document {
  return typeof response === 'object' && response !== null && 'openapi' in response
}

const meanings: Record<string, string> = {
  '200': 'Done',
  '201': 'Created',
  '204': 'Deleted; no body',
  '304': 'Not changed; no body',
}

/** Answers that belong to no operation. `401`: under `/api`, before anything else. */
const answersToNoRoute: Record<string, [FailureCode, ...FailureCode[]]> = {
  '400': ['bad_request'],
  '401': ['token_missing', 'token_invalid', 'token_expired'],
  '403': ['wrong_user'],
  '404': ['route_not_found'],
  '405': ['method_not_allowed'],
  '429': ['rate_limited'],
  '503': ['auth_unavailable'],
}

/**
 * Adds what the plugin cannot know from the schemas: that a token is needed, which headers come with
 * which status, an example of every error, that JSON is the one media type, what a route says of
 * itself in its `detail`, and the answers that belong to no route, as components under their status.
 */
export function complete(document: Document): Document {
  for (const operations of Object.values(document.paths))
    for (const operation of Object.values(operations)) completeOperation(operation)
  document.components.responses = Object.fromEntries(
    Object.entries(answersToNoRoute).map(([status, codes]) => {
      const schema: object = Failure(...codes)
      const content = { 'application/json': { schema } }
      const place = { status, isWrite: false, isCounted: true, headers: {} }
      return [status, completeAnswer(place, { content })]
    }),
  )
  return document
}

function completeOperation(operation: Operation): void {
  const { 'x-answers': own = {}, 'x-optional-body': isOptional = false } = operation
  const isCounted = operation['x-uncounted'] !== true
  delete operation['x-answers']
  delete operation['x-optional-body']
  delete operation['x-uncounted']
  if ('401' in operation.responses) operation.security = [{ bearer: [] }]
  if (operation.requestBody) {
    const content = onlyJson(operation.requestBody.content)
    // Elysia takes `{}` for an optional body that is not there, and never checks it.
    if (isOptional) delete mediaOf(content).schema?.minProperties
    // Elysia closes a schema when it compiles it, and then drops other fields all the same.
    delete mediaOf(content).schema?.additionalProperties
    operation.requestBody = { required: !isOptional, content }
  }
  for (const [status, { content }] of Object.entries(own))
    if (content) operation.responses[status] = { content }
  const isWrite = '409' in operation.responses
  operation.responses = Object.fromEntries(
    Object.entries(operation.responses).map(([status, answer]) => {
      const { headers = {} } = own[status] ?? {}
      return [status, completeAnswer({ status, isWrite, isCounted, headers }, answer)]
    }),
  )
}

function completeAnswer(given: Omit<Place, 'schema' | 'codes'>, { content }: Answer): Answer {
  const { schema } = mediaOf(content)
  const codes = schema?.properties?.code?.enum ?? []
  return {
    description: meanings[given.status] ?? codes.join(', '),
    headers: headersOf({ ...given, schema, codes }),
    ...(content &&
      !['204', '304'].includes(given.status) && { content: mediaTypes(content, codes) }),
  }
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
