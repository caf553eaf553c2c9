import { CloneType, Kind, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Elysia, getSchemaValidator } from 'elysia'
import { createTurns } from '../db/turns.ts'
import { WaitedTooLong } from '../db/waiting.ts'
import { ApiError, fieldErrors, mostFieldErrors, type FieldError } from './failures.ts'
import { describeWanted } from './values.ts'

export const usualBody = 64 * 1024 // bytes
/** How many bytes of larger bodies may be arriving at a time, for all users and for one. */
const roomForLarge = { places: 32 * 1024 * 1024, perUser: 2 * 1024 * 1024 } // bytes
/** How long a larger body may be arriving, since it keeps room from others: 17 KiB a second at least. */
const longestArrival = 30_000 // ms
const whileThereIsNoRoom = { longestQueue: 100, deadline: 5_000 } // requests of one user, and ms

/** What the sender of a body that is too large is told. */
export function tooLarge(mostBytes: number): string {
  return `The body is larger than ${mostBytes / 1024} KiB`
}

const deepestNesting = 32 // levels; what the routes take has 2

/**
 * Reads a request's body as a JSON object, or as `undefined` if there is none, and leaves the
 * rest to the route's schema. It does so after the current user is known. Elysia's own parsers run
 * before every other hook: a stranger with a malformed body would be told about the body, not 401.
 *
 * @param mostBytes what is longer is 413. If that is more than usual, what is on its way is bounded, too
 */
export function jsonBody(mostBytes = usualBody) {
  const room =
    mostBytes > usualBody ? createTurns({ ...roomForLarge, ...whileThereIsNoRoom }) : undefined

  async function readInTurn(request: Request, user: string): Promise<object | undefined> {
    const announced = announcedLength(request) ?? mostBytes
    if (room === undefined || announced <= usualBody) return readJsonObject(request, mostBytes)
    const { release } = await room.take(user, Math.min(announced, mostBytes)).catch(explainNoRoom)
    return inTime(readJsonObject(request, mostBytes)).finally(release)
  }

  return (
    new Elysia({ name: 'json-body', seed: mostBytes })
      // A parser that has an answer keeps Elysia's away. Not `parse: 'none'`: with it, the schema of
      // the body is not checked at all.
      .onParse({ as: 'scoped' }, async () => null)
      .onTransform({ as: 'scoped' }, async function readBody(context) {
        const { method } = context.request
        if (method === 'POST' || method === 'PUT' || method === 'PATCH')
          context.body = await readInTurn(context.request, String(Reflect.get(context, 'userId')))
      })
  )
}

/**
 * What a route says that takes this body: the schema, and a check of it that comes before Elysia's.
 * Elysia's `ValidationError` holds and prints the whole value, outside of production up to 64 times;
 * it is left a body that is not there, or empty.
 */
export function takes<Body extends TSchema>(schema: Body) {
  const read = createReader(schema)
  return {
    body: schema,
    /** @throws ApiError 422 */
    async transform(context: { body: unknown }): Promise<void> {
      const given = context.body
      if (typeof given !== 'object' || given === null || Object.keys(given).length === 0) return
      context.body = read(given)
    },
  }
}

/**
 * Makes a reader of objects by a schema: it leaves out what the schema does not name, and checks the
 * rest. The schema's transforms are not applied.
 *
 * @param whole what to call the object if it is wrong as a whole
 * @throws ApiError 422, when reading
 */
export function createReader(schema: TSchema, whole = 'body'): (given: object) => unknown {
  const check = createCheck(schema)
  return function read(given) {
    const { known, errors } = check(given, whole)
    if (errors) throw new ApiError('validation_failed', { errors })
    return known
  }
}

/**
 * Holds objects to a schema, without the fields that it does not know. The work, and what is told, is
 * bounded by what the schema allows and not by what was sent.
 */
export function createCheck(schema: TSchema) {
  // A copy: it would close the schema to other fields, in the documentation too.
  const validator = getSchemaValidator(CloneType(schema), { normalize: true })

  function withoutUnknown(given: object): unknown {
    try {
      return validator.Clean?.(given)
    } catch {
      // It throws on values that are refused anyway, such as a null among objects.
      return Value.Clean(schema, given)
    }
  }

  const lists = Object.entries<TSchema>(schema['properties'] ?? {}).filter(
    ([, { maxItems }]) => maxItems !== undefined,
  )
  function wrongLists(given: Record<string, unknown>): FieldError[] {
    return lists.flatMap(([field, list]) => wrongInList(field, list, given[field]))
  }

  /** @param whole what to call a value that is wrong as a whole */
  return function check(given: unknown, whole: string): { known: unknown; errors?: FieldError[] } {
    const wrong = isObject(given) ? wrongLists(given) : []
    if (wrong.length > 0) return { known: given, errors: wrong.slice(0, mostFieldErrors) }
    const known = isObject(given) ? withoutUnknown(given) : given
    if (validator.Check(known)) return { known }
    return { known, errors: fieldErrors(validator.Errors(known), whole) }
  }
}

/** A list that is too long, whose items nobody then looks at, or what Clean would take for a list or an object. */
function wrongInList(field: string, list: TSchema, given: unknown): FieldError[] {
  // Lists of another kind look at their items themselves, and some may be sent as one text.
  const isPlain = list[Kind] === 'Array'
  const isWrong = Array.isArray(given)
    ? given.length > list['maxItems']
    : isObject(given) || (isPlain && typeof given === 'string')
  if (isWrong) return [{ field, detail: describeWanted(list) }]
  const items: TSchema = list['items']
  if (!isPlain || !Array.isArray(given) || items['type'] !== 'object') return []
  return given.flatMap((item, index) =>
    isObject(item) ? [] : [{ field: `${field}.${index}`, detail: describeWanted(items) }],
  )
}

function explainNoRoom(error: unknown): never {
  throw error instanceof WaitedTooLong
    ? tryLater('Too many large bodies are arriving; send fewer operations at once')
    : error
}

async function inTime<Body>(reading: Promise<Body>): Promise<Body> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => reject(tryLater('The body came too slowly; send fewer operations at once')),
    longestArrival,
  )
  return Promise.race([reading, late]).finally(() => clearTimeout(timer))
}

const tryLater = (detail: string) =>
  new ApiError('rate_limited', { detail, headers: { 'retry-after': '5' } })

/** Whether it is what JSON calls an object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** @throws ApiError 413, 415 or 422, or 499 if the client left before the end of the body */
async function readJsonObject(request: Request, mostBytes: number): Promise<object | undefined> {
  const bytes = await readBytes(request, mostBytes)
  if (bytes.byteLength === 0) return undefined
  const value = parseBody(request, bytes)
  if (!isObject(value))
    throw new ApiError('validation_failed', {
      errors: [{ field: 'body', detail: 'must be a JSON object' }],
    })
  return value
}

/** @throws ApiError 415 or 422 */
export function parseBody(request: Request, bytes: Uint8Array): unknown {
  if (!isJson(request)) throw new ApiError('unsupported_media_type')
  if (isNestedTooDeep(bytes))
    throw new ApiError('validation_failed', {
      errors: [{ field: 'body', detail: `must be nested ${deepestNesting} levels deep at most` }],
    })
  return parse(bytes)
}

/** @throws ApiError 413, or 499 if the client left before the end of the body */
export async function readBytes(request: Request, mostBytes = usualBody): Promise<Uint8Array> {
  return readAll(request, mostBytes).catch(explainAbort)
}

/** The length that a request says its body has; a chunked one does not say. */
function announcedLength({ headers }: Request): number | undefined {
  const length = headers.get('content-length')
  return length === null || headers.has('transfer-encoding') ? undefined : Number(length)
}

async function readAll(request: Request, mostBytes: number): Promise<Uint8Array> {
  const length = announcedLength(request)
  const detail = tooLarge(mostBytes)
  if (length !== undefined && length > mostBytes) throw new ApiError('body_too_large', { detail })
  // The runtime reads no more than what was announced. A stream costs 25 µs more, and is for bodies
  // whose length is not known.
  if (length !== undefined) return request.bytes()
  if (request.body === null) return new Uint8Array()
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of request.body) {
    size += chunk.byteLength
    if (size > mostBytes) throw new ApiError('body_too_large', { detail })
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** The runtime ends the reading with this error if the connection closes first. */
function explainAbort(error: unknown): never {
  throw error instanceof Error && error.name === 'AbortError' ? new ApiError('client_left') : error
}

function isJson({ headers, method }: Request): boolean {
  const [type = '', ...parameters] = (headers.get('content-type') ?? '').toLowerCase().split(';')
  const charset = parameters.map((text) => text.trim()).find((text) => text.startsWith('charset='))
  const encoding = (headers.get('content-encoding') ?? 'identity').toLowerCase()
  return (
    (type.trim() === 'application/json' ||
      (method === 'PATCH' && type.trim() === 'application/merge-patch+json')) &&
    (charset === undefined || /^charset="?utf-?8"?$/.test(charset)) &&
    encoding === 'identity'
  )
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch {
    throw new ApiError('malformed_json', {
      errors: [{ field: 'body', detail: 'must be JSON (RFC 8259) in UTF-8' }],
    })
  }
}

const [quote, backslash, openBracket, closeBracket, openBrace, closeBrace] = Buffer.from('"\\[]{}')

/**
 * Whether lists and objects are in one another deeper than anything that a route takes. It looks at
 * bytes, before they are parsed: what goes through a value level by level, such as a check for
 * distinct items or printing it, would take seconds or overflow the stack.
 */
function isNestedTooDeep(bytes: Uint8Array): boolean {
  let depth = 0
  let isInText = false
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at]
    if (isInText) {
      if (byte === backslash) at += 1
      else if (byte === quote) isInText = false
    } else if (byte === quote) isInText = true
    else if (byte === openBracket || byte === openBrace) {
      depth += 1
      if (depth > deepestNesting) return true
    } else if (byte === closeBracket || byte === closeBrace) depth -= 1
  }
  return false
}
