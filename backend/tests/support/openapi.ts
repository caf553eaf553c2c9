import Ajv from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

/** An answer as it came over the wire. */
export type WireAnswer = { status: number; headers: Headers; text: string }

export type OpenApiDocument = {
  paths: Record<string, Record<string, Operation>>
  /** The answers that belong to no operation, by their statuses. */
  'x-unrouted-answers': Record<string, Declared>
}
type Operation = {
  parameters?: { name: string; in: string }[]
  requestBody?: { content: Record<string, { schema: object }> }
  responses: Record<string, Declared>
}
type Declared = {
  headers?: Record<string, { required?: boolean; schema: object }>
  content?: Record<string, { schema: object }>
}

/** What HTTP itself and CORS bring to any answer; a document need not repeat it. */
const undeclaredHeaders =
  /^(date|connection|keep-alive|content-length|content-type|transfer-encoding|access-control-.+)$/

/** The second way to write every path below it. */
const userPrefix = /^\/api\/[^/]+(?=\/tasks(?:\/|$))/

export type Conformance = ReturnType<typeof createConformance>

/**
 * The document with each reference replaced by what it names, the same object for the same name.
 *
 * @throws Error if a reference names nothing
 */
export function withoutReferences<Document extends object>(document: Document): Document {
  const named = new Map<string, unknown>()
  function resolve(value: unknown): unknown {
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) return value.map(resolve)
    if ('$ref' in value) return resolveName(String(value.$ref))
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolve(each)]))
  }
  function resolveName(name: string): unknown {
    if (!named.has(name)) {
      const [root, ...keys] = name.split('/')
      const component = keys.reduce<unknown>((within, key) => Object(within)[key], document)
      if (root !== '#' || component === undefined) throw new Error(`${name} names nothing`)
      named.set(name, resolve(component))
    }
    return named.get(name)
  }
  return resolve(document) as Document
}

/** Holds answers to what the server's own OpenAPI document says of them. */
export function createConformance(printed: OpenApiDocument) {
  const document = withoutReferences(printed)
  const unrouted = document['x-unrouted-answers']
  const ajv = addFormats(new Ajv({ strict: false }))
  const compiled = remember((schema: object) => ajv.compile(schema))
  /** Takes no property that the schema does not name. */
  const compiledClosed = remember((schema: object) => ajv.compile(closed(schema)))
  const eitherOf = remember((declared: Declared) => either(declared, unrouted['403']!))
  const patterns = Object.keys(document.paths)
    // `/api/tasks/trash` before `/api/tasks/{id}`.
    .toSorted((one, other) => one.split('{').length - other.split('{').length)
    .map((pattern) => ({
      pattern,
      shape: new RegExp(`^${pattern.replaceAll(/\{\w+\}/g, '[^/]+')}/?$`),
    }))

  function problemsOfHeaders(declared: Declared, { headers }: WireAnswer): string[] {
    const ours = new Map(
      Object.entries(declared.headers ?? {}).map(([name, header]) => [name.toLowerCase(), header]),
    )
    return [
      ...[...headers.keys()]
        .filter((name) => !ours.has(name) && !undeclaredHeaders.test(name))
        .map((name) => `the header ${name} is not declared`),
      ...[...ours].flatMap(([name, { required, schema }]) => {
        const value = headers.get(name)
        if (value === null) return required ? [`the header ${name} is missing`] : []
        const isNumber = 'type' in schema && schema.type === 'integer'
        return compiled(schema)(isNumber ? Number(value) : value)
          ? []
          : [`the header ${name} is not what its schema says`]
      }),
    ]
  }

  function problemsOfBody(declared: Declared, method: string, answer: WireAnswer): string[] {
    const [[mediaType, media] = []] = Object.entries(declared.content ?? {})
    if (method === 'HEAD' || mediaType === undefined || media === undefined)
      return answer.text === '' ? [] : ['there is a body, and none is declared']
    const [given] = (answer.headers.get('content-type') ?? '').split(';')
    if (given !== mediaType) return [`the content type is ${given} and not ${mediaType}`]
    if (mediaType !== 'application/json') return []
    const validate = compiledClosed(media.schema)
    return validate(parsed(answer.text)) ? [] : [`the body: ${ajv.errorsText(validate.errors)}`]
  }

  /** The pattern of the document that a path follows; none for a path that no route takes. */
  function patternOf(path: string): string | undefined {
    const plain = path.replace(userPrefix, '/api')
    return patterns.find(({ shape }) => shape.test(plain))?.pattern
  }

  function operationOf(method: string, path: string): Operation | undefined {
    const pattern = patternOf(path)
    const wanted = method === 'HEAD' ? 'get' : method.toLowerCase()
    return pattern === undefined ? undefined : document.paths[pattern]?.[wanted]
  }

  /** What the document allows for an answer: what its route declares, or what holds for all routes. */
  function declarationOf(method: string, path: string, status: number): Declared | undefined {
    const operation = operationOf(method, path)
    if (operation === undefined) return unrouted[status]
    // A request with a wrong Host is refused before its path is looked at.
    if (status === 400) return operation.responses[status] ?? unrouted[status]
    const declared = operation.responses[status]
    if (status !== 403 || !userPrefix.test(path)) return declared
    return declared ? eitherOf(declared) : unrouted[status]
  }

  return {
    patternOf,
    operations: Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => ({ method: method.toUpperCase(), path })),
    ),

    /** The names of the parameters that may stand in the query. */
    parametersOf(method: string, path: string): string[] {
      return (operationOf(method, path)?.parameters ?? [])
        .filter((parameter) => parameter.in === 'query')
        .map(({ name }) => name)
    },

    /** Whether a body is one that the document says the route takes. */
    takesBody(method: string, path: string, body: unknown): boolean {
      const media = operationOf(method, path)?.requestBody?.content['application/json']
      return media === undefined || compiled(media.schema)(body)
    },

    /**
     * @param path without the query
     * @returns what the document does not declare
     */
    problems(method: string, path: string, answer: WireAnswer): string[] {
      // The documentation is no part of the API that it describes.
      if (/^\/(docs(\/|$)|$)/.test(path) && answer.status < 400) return []
      // Neither are the API's answers as front ends of another shape are told them.
      if (path.startsWith('/compat/')) return []
      // Preflight requests are answered by the rules of CORS, which has its own.
      if (method === 'OPTIONS') return answer.status === 204 ? [] : ['OPTIONS is not answered 204']
      const declared = declarationOf(method, path, answer.status)
      if (!declared) return [`the status ${answer.status} is not declared`]
      return [...problemsOfHeaders(declared, answer), ...problemsOfBody(declared, method, answer)]
    },
  }
}

/** A 403 under a user's id: another user's path, or another user's task. */
function either(one: Declared, other: Declared): Declared {
  const schemas = [one, other].map(({ content }) => content!['application/json']!.schema)
  return { ...one, content: { 'application/json': { schema: { anyOf: schemas } } } }
}

/** The same schema, taking no property that it does not name: neither it nor what it is made of. */
function closed(schema: object): object {
  const within = closedInside(schema)
  const isObject = 'properties' in within || 'allOf' in within
  return isObject ? { unevaluatedProperties: false, ...within } : within
}

function closedInside(schema: object): object {
  return Object.fromEntries(
    Object.entries(schema).map(([keyword, value]: [string, unknown]) => {
      switch (keyword) {
        case 'properties':
          return [
            keyword,
            Object.fromEntries(
              Object.entries(value as object).map(([name, each]) => [name, closed(each)]),
            ),
          ]
        case 'items':
          return [keyword, closed(value as object)]
        case 'anyOf':
          return [keyword, (value as object[]).map(closed)]
        case 'allOf': // they are closed together
          return [keyword, (value as object[]).map(closedInside)]
        default:
          return [keyword, value]
      }
    }),
  )
}

/** Makes a thing once for each key. */
function remember<Key extends object, Made>(make: (key: Key) => Made): (key: Key) => Made {
  const made = new Map<Key, Made>()
  return (key) => made.get(key) ?? made.set(key, make(key)).get(key)!
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
