import {
  Failure,
  failures,
  sentenceOf,
  type FailureCode,
  type FieldError,
} from '../http/failures.ts'
import { createComponents, type Components, type Reference, type Schema } from './components.ts'
import {
  headersOf,
  sampleRequestId,
  type AnswerSchema,
  type AnswerKind,
  type RouteHeader,
} from './headers.ts'

/** As much of an OpenAPI document as is completed here. */
export type Document = {
  paths: Record<string, Record<string, Operation>>
  components: object
  /** The answers that belong to no operation, by their statuses. */
  'x-unrouted-answers'?: Record<string, Answer | Reference>
}
type Operation = RouteFacts & {
  security?: object[]
  parameters?: (Parameter | Reference)[]
  requestBody?: { required: boolean; content: Record<string, Media> }
  responses: Record<string, Answer | Reference>
}
type Parameter = { name: string; in: string; examples?: unknown[] }
/** What a route says in its `detail` for this document, and the plugin does not know. */
type RouteFacts = {
  /** What some answers have besides what is made of their schemas. */
  'x-answers'?: Record<
    string,
    {
      headers?: Record<string, RouteHeader>
      content?: Answer['content']
      /** What a failure says there, if it is not what it says elsewhere. */
      detail?: string
    }
  >
  'x-optional-body'?: boolean
  /** It never counts against a quota. */
  'x-uncounted'?: boolean
}
type Answer = {
  description?: string
  headers?: object
  content?: Record<string, Media>
  /** The plugin puts here what the schema of the body has besides its keywords. */
  title?: string
  examples?: unknown[]
}
type Media = {
  schema?: AnswerSchema & Schema & { minProperties?: number }
  examples?: object
  example?: string
}

export function isDocument(response: unknown): response is Document {
  return typeof response === 'object' && response !== null && 'openapi' in response
}

const meanings: Record<string, string> = {
  '200': 'Done',
  '201': 'Created',
  '202': 'Accepted; no body',
  '204': 'Deleted; no body',
  '304': 'Not changed; no body',
  '400': 'Not a message, or one of another revision',
  '404': 'There is no such method',
  '415': 'Not JSON in UTF-8',
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
 * itself in its `detail`, and the answers that belong to no route, as `x-unrouted-answers`. What is
 * said several times becomes a component.
 */
export function complete(document: Document): Document {
  const components = createComponents()
  document.paths = Object.fromEntries(
    Object.entries(document.paths).toSorted(([one], [other]) => rank(one) - rank(other)),
  )
  for (const operations of Object.values(document.paths))
    for (const operation of Object.values(operations)) completeOperation(operation, components)
  document['x-unrouted-answers'] = Object.fromEntries(
    Object.entries(answersToNoRoute).map(([status, codes]) => {
      const schema: object = Failure(...codes)
      const content = { 'application/json': { schema } }
      const kind = { status, isWrite: false, isCounted: true, headers: {} }
      return [status, completeAnswer(kind, { content }, components)]
    }),
  )
  Object.assign(document.components, components.gathered)
  return document
}

/** Swagger UI shows a list first, then what is done with one of its items, then the rest. */
function rank(path: string): number {
  return 2 * path.split('/').length - (path.endsWith('}') ? 1 : 0)
}

function completeOperation(operation: Operation, components: Components): void {
  const { 'x-answers': own = {}, 'x-optional-body': isOptional = false } = operation
  const isCounted = operation['x-uncounted'] !== true
  delete operation['x-answers']
  delete operation['x-optional-body']
  delete operation['x-uncounted']
  operation.security ??= '401' in operation.responses ? [{ bearer: [] }] : []
  const { parameters = [] } = operation
  const isWrite = parameters.some((one) => 'name' in one && one.name === 'idempotency-key')
  if (operation.parameters)
    operation.parameters = operation.parameters.map((parameter) =>
      completeParameter(parameter, components),
    )
  if (operation.requestBody)
    operation.requestBody = completeBody(operation.requestBody.content, isOptional, components)
  for (const [status, { content }] of Object.entries(own))
    if (content) operation.responses[status] = { content }
  operation.responses = Object.fromEntries(
    Object.entries(operation.responses).map(([status, answer]) => {
      const { headers = {}, detail } = own[status] ?? {}
      const kind = { status, isWrite, isCounted, headers }
      return [status, completeAnswer(kind, answer, components, detail)]
    }),
  )
}

/** Headers are the same wherever they are; other parameters may share no more than a name. */
function completeParameter(
  parameter: Parameter | Reference,
  components: Components,
): Parameter | Reference {
  if ('$ref' in parameter) return parameter
  // The plugin copies them from the schema as a list, where OpenAPI has a map. As `example` Swagger UI
  // would send it with every request: an If-Match, and an Idempotency-Key that was used before.
  const completed = { ...parameter }
  delete completed.examples
  return parameter.in === 'header'
    ? components.refer('parameters', parameter.name, completed)
    : completed
}

function completeBody(given: Record<string, Media>, isOptional: boolean, components: Components) {
  const { schema = {} } = mediaOf(given)
  // Elysia takes `{}` for an optional body that is not there, and never checks it.
  if (isOptional) delete schema.minProperties
  return { required: !isOptional, content: onlyJson(schema, components) }
}

function completeAnswer(
  given: Omit<AnswerKind, 'schema' | 'codes'>,
  answer: Answer | Reference,
  components: Components,
  detail?: string,
): Answer | Reference {
  if ('$ref' in answer) return answer
  const { content, title, examples } = answer
  const schema = {
    ...mediaOf(content).schema,
    ...(title !== undefined && { title }),
    ...(examples && { examples }),
  }
  const codes = schema.properties?.code?.enum ?? []
  const completed = {
    description: codes.join(', ') || meanings[given.status]!,
    headers: headersOf({ ...given, schema, codes }, components),
    ...(content &&
      !['202', '204', '304'].includes(given.status) && {
        content: mediaTypes(content, schema, components, codes, detail),
      }),
  }
  return codes.length > 0 && detail === undefined
    ? components.refer('responses', codes.map(inPascalCase).join('Or'), completed)
    : completed
}

function inPascalCase(code: FailureCode): string {
  return code.replaceAll(/(?:^|_)(\w)/g, (_, letter: string) => letter.toUpperCase())
}

function mediaTypes(
  content: Record<string, Media>,
  schema: Schema,
  components: Components,
  codes: FailureCode[],
  detail: string | undefined,
): Record<string, Media> {
  return 'text/event-stream' in content ? content : onlyJson(schema, components, codes, detail)
}

function onlyJson(
  schema: Schema,
  components: Components,
  codes: FailureCode[] = [],
  detail?: string,
): Record<string, Media> {
  const examples = Object.fromEntries(
    codes.map((code) => [code, { value: exampleOf(code, schema, detail) }]),
  )
  return {
    'application/json': {
      schema: components.referInside(schema),
      ...(codes.length > 0 && { examples }),
    },
  }
}

function mediaOf(content: Record<string, Media> = {}): Media {
  const [media = {}] = Object.values(content)
  return media
}

const sampleErrors: Partial<Record<FailureCode, FieldError>> = {
  malformed_json: { field: 'body', detail: 'must be JSON (RFC 8259) in UTF-8' },
  idempotency_key_reused: { field: 'Idempotency-Key', detail: 'was used for another request' },
}

/** The field that these failures add; their schemas have an example of it. */
const besides: Partial<Record<FailureCode, string>> = {
  version_conflict: 'current',
  bulk_refused: 'results',
}

function exampleOf(code: FailureCode, { properties = {} }: Schema, ownDetail?: string) {
  const { status, detail } = failures[code]
  const example = { detail: ownDetail ?? detail, code, request_id: sampleRequestId }
  if (status === 422) {
    const error = sampleErrors[code] ?? { field: 'title', detail: 'is required' }
    return { ...example, detail: sentenceOf(error), errors: [error] }
  }
  const name = besides[code]
  return name === undefined ? example : { ...example, [name]: properties[name]?.examples?.[0] }
}
