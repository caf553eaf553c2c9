import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import Ajv from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { failures, type FieldError } from '../../http/failures.ts'
import { startApi } from '../support/api.ts'
import { withoutReferences } from '../support/openapi.ts'

type Media = {
  schema: { properties?: Record<string, unknown> }
  examples?: Record<string, { value: unknown }>
}
type Operation = {
  security?: object[]
  parameters?: { name: string; in: string; required: boolean; schema: object }[]
  requestBody?: { required: boolean; content: Record<string, Media> }
  responses: Record<string, Answer>
}
type Answer = {
  description: string
  headers: Record<string, { required: boolean }>
  content?: Record<string, Media>
}
type Document = {
  paths: Record<string, Record<string, Operation>>
  'x-unrouted-answers': Record<string, Answer>
  components: Record<string, Record<string, object>>
}

const api = startApi()
afterAll(api.stop)
let paths: Record<string, Record<string, Operation>>
let unrouted: Record<string, Answer>
let document: Document
beforeAll(async () => {
  ;({ body: document } = await api.request<Document>('GET', '/docs/json'))
  ;({ paths, 'x-unrouted-answers': unrouted } = withoutReferences(document))
})

describe('the OpenAPI document', () => {
  test('shows first how to list and create, and then what is done with one task', () => {
    const ofTasks = Object.keys(paths).filter((path) => path.startsWith('/api/tasks'))
    expect(ofTasks.slice(0, 2)).toEqual(['/api/tasks', '/api/tasks/{id}'])
    expect(ofTasks.indexOf('/api/tasks/bulk')).toBeGreaterThan(1)
  })

  test('says that the stream of events takes a token or a ticket', () => {
    expect(paths['/api/tasks/events']!['get']!.security).toEqual([{ bearer: [] }, { ticket: [] }])
    expect(document.components['securitySchemes']).toMatchObject({
      ticket: { type: 'apiKey', in: 'query', name: 'ticket' },
    })
  })

  test('says how large a body may be, for bulk requests too', () => {
    const example = (path: string) =>
      paths[path]!['post']!.responses['413']!.content!['application/json']!.examples![
        'body_too_large'
      ]!.value
    expect(example('/api/tasks')).toMatchObject({ detail: 'The body is larger than 64 KiB' })
    expect(example('/api/tasks/bulk')).toMatchObject({ detail: 'The body is larger than 512 KiB' })
  })

  test('has yes and no as booleans', () => {
    const schemaOf = (path: string, method: string, name: string) =>
      paths[path]![method]!.parameters!.find((parameter) => parameter.name === name)!.schema
    for (const [path, method, name] of [
      ['/api/tasks', 'get', 'overdue'],
      ['/api/tasks', 'get', 'completed'],
      ['/api/tasks/{id}', 'delete', 'permanent'],
    ] as const)
      expect(schemaOf(path, method, name)).toMatchObject({ type: 'boolean' })
  })

  test('has every route with every status, the second mount as a paragraph', async () => {
    const { body, text } = await api.request<{ openapi: string; info: { description: string } }>(
      'GET',
      '/docs/json/',
    )
    const table = Object.entries(paths).flatMap(([path, operations]) =>
      Object.entries(operations).map(
        ([method, { responses }]) => `${method} ${path} ${Object.keys(responses).join(' ')}`,
      ),
    )
    expect(table.toSorted()).toEqual([
      'delete /api/keys/{id} 204 401 403 404 422 429 500 503',
      'delete /api/tasks/{id} 204 401 403 404 409 412 422 429 500 503',
      'get /.well-known/oauth-protected-resource/mcp 200 404 429 500',
      'get /api/keys 200 401 403 422 429 500 503',
      'get /api/tasks 200 304 401 403 422 429 500 503',
      'get /api/tasks/changes 200 401 403 410 422 429 500 503',
      'get /api/tasks/events 200 401 403 422 429 500 503',
      'get /api/tasks/trash 200 401 403 422 429 500 503',
      'get /api/tasks/{id} 200 304 401 403 404 422 429 500 503',
      'get /health 200',
      'get /ready 200 503',
      'patch /api/tasks/{id} 200 401 403 404 409 412 413 415 422 429 500 503',
      'patch /api/tasks/{id}/complete 200 401 403 404 409 412 413 415 422 429 500 503',
      'post /api/keys 201 401 403 409 413 415 422 429 500 503',
      'post /api/tasks 201 401 403 409 413 415 422 429 500 503',
      'post /api/tasks/bulk 200 401 403 409 413 415 422 429 500 503',
      'post /api/tasks/events/ticket 201 401 403 413 415 422 429 500 503',
      'post /api/tasks/{id}/restore 200 401 403 404 409 412 413 415 422 429 500 503',
      'post /api/tasks/{id}/skip 200 401 403 404 409 412 413 415 422 429 500 503',
      'post /mcp 200 202 400 401 403 404 413 415 429 500 503',
      'put /api/tasks/{id} 200 401 403 404 409 412 413 415 422 429 500 503',
    ])
    expect(body.openapi).toBe('3.1.0')
    expect(body.info.description).toContain('/api/{user_id}/tasks')
    expect(text).not.toMatch(/https?:\/\//)
  })

  test('says what is checked in ids and bodies', () => {
    const put = paths['/api/tasks/{id}']!['put']!
    expect(put.security).toEqual([{ bearer: [] }])
    expect(put.parameters!.map(({ name }) => name)).toEqual(['idempotency-key', 'if-match', 'id'])
    expect(put.parameters!.filter((parameter) => parameter.in === 'path')).toEqual([
      {
        name: 'id',
        in: 'path',
        required: true,
        description: 'The id of a task',
        schema: { type: 'integer', minimum: 1, maximum: Number.MAX_SAFE_INTEGER },
      },
    ] as never)
    expect(put.requestBody!.required).toBe(true)
    expect(Object.keys(put.requestBody!.content)).toEqual(['application/json'])
    const { schema } = put.requestBody!.content['application/json']!
    expect(schema.properties).toMatchObject({
      title: { type: 'string', minLength: 1, maxLength: 200 },
      description: { anyOf: [{ type: 'string', maxLength: 1000 }, { type: 'null' }] },
      completed: { type: 'boolean' },
    })
    const complete = paths['/api/tasks/{id}/complete']!['patch']!.requestBody!
    expect(complete.required).toBe(false)
    expect(complete.content['application/json']!.schema).not.toHaveProperty('minProperties')
    expect(
      paths['/api/tasks/{id}']!['get']!.responses['200']!.content!['application/json']!.schema
        .properties,
    ).toMatchObject({
      id: { type: 'integer' },
      completed: { type: 'boolean' },
      created_at: { type: 'string', format: 'date-time' },
    })
    for (const probe of ['/health', '/ready']) expect(paths[probe]!['get']!.security).toEqual([])
    const list = paths['/api/tasks']!['get']!
    expect(list.parameters!.map(({ name }) => name)).toEqual([
      'if-none-match',
      'status',
      'priority',
      'tag',
      'q',
      'due_from',
      'due_to',
      'overdue',
      'tz',
      'sort',
      'limit',
      'cursor',
      'completed',
      'search',
      'order',
    ])
  })

  test('declares the headers of an answer, and which are always there', () => {
    const headersOf = (path: string, method: string, status: string) =>
      Object.entries(paths[path]![method]!.responses[status]!.headers).map(
        ([name, { required }]) => (required ? name : `${name}?`),
      )
    const everywhere = [
      'X-Request-Id',
      'Cache-Control',
      'X-Content-Type-Options',
      'Referrer-Policy',
      'Content-Security-Policy',
      'Strict-Transport-Security?',
    ]
    const always = [...everywhere, 'RateLimit-Policy?', 'RateLimit?', 'Vary']
    expect(headersOf('/health', 'get', '200')).toEqual([...everywhere, 'Vary'])
    expect(headersOf('/api/tasks', 'get', '200')).toEqual([
      ...always,
      'ETag',
      'X-Total-Count',
      'Sync-Token',
      'Link?',
    ])
    expect(headersOf('/api/tasks', 'get', '304')).toEqual([...always, 'ETag'])
    expect(headersOf('/api/tasks', 'post', '201')).toEqual([
      ...always,
      'ETag',
      'Location',
      'Idempotent-Replayed?',
    ])
    expect(headersOf('/api/tasks', 'post', '409')).toEqual([...always, 'Retry-After?'])
    expect(headersOf('/api/tasks/{id}', 'put', '409')).toEqual([...always, 'Retry-After?'])
    expect(headersOf('/api/tasks/{id}', 'delete', '409')).toEqual([...always, 'Retry-After'])
    expect(headersOf('/api/tasks/{id}', 'put', '412')).toEqual(always)
    expect(headersOf('/api/tasks/{id}', 'delete', '204')).toEqual([
      ...always,
      'Idempotent-Replayed?',
    ])
    expect(headersOf('/api/tasks/trash', 'get', '401')).toEqual([...always, 'WWW-Authenticate'])
    expect(headersOf('/api/tasks/events', 'get', '200')).toEqual([...always, 'X-Accel-Buffering'])
  })

  test('lets a body have other fields, as the routes do', () => {
    const bodies = Object.values(paths)
      .flatMap((operations) => Object.values(operations))
      .map((operation) => JSON.stringify(operation.requestBody ?? {}))
    expect(bodies.join('')).toContain('"title"')
    expect(bodies.join('')).not.toContain('additionalProperties')
  })

  test('has the answers that belong to no route', () => {
    expect(Object.keys(unrouted)).toEqual(['400', '401', '403', '404', '405', '429', '503'])
    expect(unrouted['405']).toMatchObject({
      headers: { Allow: { required: true } },
      content: { 'application/json': { examples: { method_not_allowed: {} } } },
    })
  })

  test('names what is said several times, and says it once', () => {
    const { schemas, headers, responses } = document.components
    expect(Object.keys(schemas!).toSorted()).toEqual([
      'BulkOperation',
      'BulkRequest',
      'BulkResult',
      'BulkResults',
      'Changes',
      'Completion',
      'Failure',
      'FieldError',
      'Key',
      'MadeKey',
      'McpAnswer',
      'McpFailure',
      'NewKey',
      'NewTask',
      'ResourceMetadata',
      'Task',
      'TaskChanges',
      'Ticket',
      'TrashedTask',
    ])
    expect(responses).toContainKeys(['InsufficientScope', 'RateLimited', 'VersionConflict'])
    const text = JSON.stringify(document)
    for (const name of Object.keys(headers!).filter((key) => !key.startsWith('Optional-')))
      expect(text.split(`"${name}":{"description"`)).toHaveLength(2)
    const operations = Object.values(document.paths).flatMap((path) => Object.keys(path))
    expect(text.length / operations.length).toBeLessThan(6_000)
  })

  test('has examples that are what their schemas say', () => {
    const ajv = addFormats(new Ajv({ strict: false }))
    const resolved: unknown = withoutReferences(document)
    const wrong: string[] = []
    let count = 0
    function check(schema: object, example: unknown, place: string) {
      count += 1
      const validate = ajv.compile(schema)
      if (!validate(example)) wrong.push(`${place}: ${ajv.errorsText(validate.errors)}`)
    }
    function look(value: unknown, place: string): void {
      if (typeof value !== 'object' || value === null) return
      const { schema, example, examples } = value as Record<string, object>
      if (schema && example !== undefined) check(schema, example, place)
      if (schema && examples)
        for (const [name, each] of Object.entries(examples))
          check(schema, each.value, `${place}/${name}`)
      if (!schema && Array.isArray(examples))
        for (const each of examples as unknown[]) check(value, each, place)
      for (const [name, each] of Object.entries(value))
        if (!/^examples?$/.test(name) || !Array.isArray(each)) look(each, `${place}/${name}`)
    }
    look(resolved, '#')
    expect(wrong).toEqual([])
    expect(count).toBeGreaterThan(200)
  })

  test('gives every error code with its headers and an example that is one of ours', () => {
    const codes = new Set<string>()
    const events = paths['/api/tasks/events']!['get']!
    const bulk = paths['/api/tasks/bulk']!['post']!
    const beside: Operation = { responses: unrouted }
    for (const operations of [...Object.values(paths), { beside }])
      for (const operation of Object.values(operations))
        for (const [status, { headers, content, description }] of Object.entries(
          operation.responses,
        )) {
          expect(description).not.toBe('')
          expect(headers).toHaveProperty('X-Request-Id')
          if (operation.security?.length) {
            expect(headers).toHaveProperty('RateLimit-Policy')
            expect(headers).toHaveProperty('RateLimit')
          }
          if (status === '429') expect(headers).toHaveProperty('Retry-After')
          if (status === '401') expect(headers).toHaveProperty('WWW-Authenticate')
          if (status === '503') expect(headers).toHaveProperty('Retry-After')
          if (JSON.stringify(content ?? {}).includes('"version"') && status === '201')
            expect(headers).toHaveProperty('Location')
          expect(Object.keys(content ?? {})).toEqual(
            ['202', '204', '304'].includes(status)
              ? []
              : [
                  operation === events && status === '200'
                    ? 'text/event-stream'
                    : 'application/json',
                ],
          )
          for (const [code, { value }] of Object.entries(
            content?.['application/json']?.examples ?? {},
          )) {
            codes.add(code)
            const { status: expected, detail: usual } = failures[code as keyof typeof failures]
            expect(String(expected)).toBe(status)
            const isOfBulk = operation === bulk && status === '413'
            const detail = isOfBulk ? 'The body is larger than 512 KiB' : usual
            const { errors: [first] = [] } = value as { errors?: FieldError[] }
            // A copy: Bun puts what `any` stands for into the value, and answers are shared.
            expect(structuredClone(value)).toMatchObject({
              code,
              detail: first ? `${first.field}: ${first.detail}` : detail,
              request_id: expect.any(String),
            })
          }
        }
    codes.add('client_left') // whoever gets it has left
    expect([...codes].toSorted()).toEqual(Object.keys(failures).toSorted())
  })
})

describe('the page', () => {
  test('the address of the server leads to the documentation', async () => {
    const answer = await fetch(api.origin, { redirect: 'manual' })
    expect(answer.status).toBe(302)
    expect(answer.headers.get('location')).toBe('/docs')
    expect(answer.headers.get('cache-control')).toBe('no-cache')
    expect(await (await fetch(api.origin)).text()).toContain('<div id="swagger-ui">')
  })

  test.each(['/docs', '/docs/'])('%s and every file that it names come from here', async (path) => {
    const { status, headers, text } = await api.request('GET', path)
    expect(status).toBe(200)
    expect(headers.get('content-type')).toBe('text/html; charset=utf-8')
    const files = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => file!)
    expect(files).toHaveLength(5)
    for (const file of files) {
      expect(file).toStartWith('/docs/')
      expect((await api.request('GET', file)).status).toBe(200)
    }
    expect(text).not.toContain('//')
  })
})

test('DOCS=off serves everything but the page and the document', async () => {
  const silent = startApi({ settings: { DOCS: 'off' } })
  for (const path of ['/docs', '/docs/json', '/docs/start.js'])
    expect((await silent.request('GET', path)).body).toMatchObject({
      code: 'route_not_found',
      detail: 'There is nothing at this path',
    })
  expect((await silent.request('GET', '/health')).status).toBe(200)
  expect((await silent.request('GET', '/api/tasks')).status).toBe(401)
  await silent.stop()
})
