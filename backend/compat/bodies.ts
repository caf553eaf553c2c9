import { isObject, usualBody } from '../http/body.ts'
import { mostBulkBytes, mostOperations } from '../tasks/bulk.ts'
import { TaskChanges, type Task } from '../tasks/schemas.ts'
import { rememberSent } from '../tasks/sent-body.ts'
import type { Destination } from './paths.ts'
import { isUnsure, keepAsRead, type Body, type ForTask } from './read-back.ts'

declare global {
  // ECMAScript 2026, "JSON.rawJSON": not yet in TypeScript's own declarations.
  interface JSON {
    rawJSON(text: string): unknown
  }
}

/** Gives those of the user's tasks, as they are kept, that have one of these ids. */
export type FindKept = (ids: readonly number[]) => Promise<Map<number, Task>>

const words = /"(?:is_completed|status|priority|due_date)"/
const statuses = new Map([
  ['completed', true],
  ['pending', false],
  ['in_progress', false],
])
const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Makes a request's body read as the API would have it. Nothing is read before the route reads it: the
 * token is looked at first.
 */
export function translateBody(
  request: Request,
  { id, isBulk }: NonNullable<Destination['tasks']>,
  findKept: FindKept,
): void {
  async function translate(bytes: Uint8Array): Promise<Uint8Array> {
    const given = parse(bytes)
    if (given === undefined) return bytes
    const bodies = isBulk ? bodiesIn(given) : [{ id, ...inOwnWords(given) }]
    const inOne = (all: ForTask[]) => (isBulk ? withBodies(given, all) : all[0]!.body)
    const unsure = bodies
      .filter(isUnsure)
      .flatMap(({ id: task }) => (task !== undefined && isId(task) ? task : []))
    if (unsure.length > 0) rememberSent(request, inOne(bodies.map(withoutUnknown)))
    const kept = unsure.length > 0 ? await findKept(unsure) : new Map<number, Task>()
    for (const each of bodies) keepAsRead(each, kept.get(each.id ?? 0))
    return Buffer.from(JSON.stringify(inOne(bodies), keepHuge))
  }
  const readBytes = request.bytes.bind(request)
  let translated: ReadableStream<Uint8Array> | undefined
  Object.defineProperties(request, {
    bytes: { value: async () => translate(await readBytes()) },
    body: {
      get() {
        const body = nativeBody(request)
        return (
          body &&
          (translated ??= translateStream(body, translate, isBulk ? mostBulkBytes : usualBody))
        )
      },
    },
  })
}

/** The runtime's own `body`, which the property defined above hides. */
function nativeBody(request: Request): ReadableStream<Uint8Array> | null {
  return Reflect.get(Request.prototype, 'body', request)
}

/** The body is read only when asked for. One that is too large is passed on only as far as needed to refuse it. */
function translateStream(
  body: ReadableStream<Uint8Array>,
  translate: (bytes: Uint8Array) => Promise<Uint8Array>,
  mostBytes: number,
): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunks: Uint8Array[] = []
        let size = 0
        for await (const chunk of body) {
          chunks.push(chunk)
          size += chunk.byteLength
          if (size > mostBytes) break
        }
        const bytes = Buffer.concat(chunks)
        controller.enqueue(size > mostBytes ? bytes : await translate(bytes))
        controller.close()
      },
    },
    // Or it would begin at once, though the framework only asks whether there is a body.
    { highWaterMark: 0 },
  )
}

/** Each operation's `data` is what the body of a request for its task would be. */
function bodiesIn({ operations }: Body): ForTask[] {
  // Too many operations, or no list at all, is refused by the route, so nothing is looked up.
  if (!Array.isArray(operations) || operations.length > mostOperations) return []
  return operations.flatMap((operation: unknown, place) => {
    if (!isObject(operation) || !isObject(operation['data'])) return []
    const { op, id, data } = operation
    return {
      place,
      id: op === 'update' && typeof id === 'number' ? id : undefined,
      ...inOwnWords(data),
    }
  })
}

function withBodies(given: Body, bodies: ForTask[]): Body {
  const { operations } = given
  if (!Array.isArray(operations)) return given
  const data = new Map(bodies.map(({ place, body }) => [place, body]))
  return {
    ...given,
    operations: operations.map((operation: unknown, place) =>
      isObject(operation) && data.has(place) ? { ...operation, data: data.get(place) } : operation,
    ),
  }
}

/** @returns undefined if there is nothing in it to translate; what is not JSON is refused later */
function parse(bytes: Uint8Array): Body | undefined {
  try {
    const text = utf8.decode(bytes)
    const value: unknown = words.test(text) ? JSON.parse(text) : undefined
    // Throws if it could not be written again: it is nested too deep.
    JSON.stringify(value)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** A number such as 1e999 stays one that is too large, and does not become null. */
function keepHuge(_name: string, value: unknown): unknown {
  if (value === Infinity) return JSON.rawJSON('1e999')
  if (value === -Infinity) return JSON.rawJSON('-1e999')
  return value
}

/** The route refuses anything else. */
function isId(number: number): boolean {
  return Number.isSafeInteger(number) && number >= 1
}

/** The fields that the API knows, always in the same order. */
function withoutUnknown({ body, ...task }: ForTask): ForTask {
  const known = Object.keys(TaskChanges.properties).filter((name) => Object.hasOwn(body, name))
  return { ...task, body: Object.fromEntries(known.map((name) => [name, body[name]])) }
}

/** The fields in the API's own words. Front ends send back whole tasks with one field changed. */
function inOwnWords({
  is_completed: isCompleted,
  ...body
}: Body): Pick<ForTask, 'body' | 'isTorn'> {
  const { status, priority, completed } = body
  const ofStatus = typeof status === 'string' ? statuses.get(status.toLowerCase()) : undefined
  const spellings = [isCompleted, completed, ofStatus].filter((is) => is !== undefined)
  const isTorn = new Set(spellings).size > 1 && spellings.every((is) => typeof is === 'boolean')
  if (spellings.length > 0)
    body['completed'] = isTorn ? changedOf(spellings, body) : wrongOr(spellings)
  if (typeof priority === 'string') body['priority'] = priority.toLowerCase()
  return { body, isTorn }
}

/** What is wrong is left to be refused. */
function wrongOr(spellings: unknown[]): unknown {
  return spellings.find((is) => typeof is !== 'boolean') ?? spellings[0]
}

/**
 * The spelling that was changed, as far as the body alone can tell: what `completed_at` does not say, unless the
 * client has set that along with it.
 */
function changedOf(spellings: unknown[], { completed_at: at, updated_at: updated }: Body): unknown {
  if (Date.parse(String(at)) > Date.parse(String(updated))) return true
  return at === undefined ? spellings[0] : spellings.find((is) => is !== (at !== null))
}
