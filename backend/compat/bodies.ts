import { isObject, usualBody } from '../http/body.ts'
import { mostBulkBytes, mostOperations } from '../tasks/bulk.ts'
import { rememberSent } from '../tasks/idempotency.ts'
import { TaskChanges } from '../tasks/schemas.ts'
import type { Place } from './paths.ts'

type Body = Record<string, unknown>

/** Whether the task with this id has no priority. */
export type HasNoPriority = (id: string) => Promise<boolean>

const words = /"(?:is_completed|status|priority|due_date)"/
const statuses = new Map<unknown, boolean>([
  ['completed', true],
  ['pending', false],
  ['in_progress', false],
])
/** As a form has it: a date and a time of day, and no zone. */
const localTime = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?$/
const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Makes a request's body read as the API would have it. Nothing is read before the route reads it: the
 * token is looked at first.
 */
export function translateBody(
  request: Request,
  { id, isBulk }: NonNullable<Place['tasks']>,
  hasNoPriority: HasNoPriority,
): void {
  const inApiWords = isBulk
    ? async (body: Body) => bulkInApiWords(body, hasNoPriority)
    : async (body: Body) => taskInApiWords(body, id, hasNoPriority)
  async function translate(bytes: Uint8Array): Promise<Uint8Array> {
    const given = parse(bytes)
    if (given === undefined) return bytes
    rememberSent(request, given)
    return Buffer.from(JSON.stringify(await inApiWords(given)))
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

/** Past the property that stands before it. */
function nativeBody(request: Request): ReadableStream<Uint8Array> | null {
  return Reflect.get(Request.prototype, 'body', request)
}

/** It is read when it is asked for; what is too large is passed on as far as that is known of it. */
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

/** @param id of the task that the body is for; absent if it is a new one */
async function taskInApiWords(
  given: Body,
  id: string | undefined,
  hasNoPriority: HasNoPriority,
): Promise<Body> {
  const body = fieldsOf(given)
  if (
    id !== undefined &&
    body['priority'] === 'medium' &&
    hasOthers(body) &&
    (await hasNoPriority(id))
  )
    delete body['priority']
  return body
}

/** Each operation's `data` is what the body of a request for its task would be. */
async function bulkInApiWords(given: Body, hasNoPriority: HasNoPriority): Promise<Body> {
  const { operations } = given
  // Of more than may be, or of what is none, nothing is looked up: the route refuses it.
  if (!Array.isArray(operations) || operations.length > mostOperations) return given
  return {
    ...given,
    operations: await Promise.all(
      operations.map(async (operation: unknown) => {
        if (!isObject(operation) || !isObject(operation['data'])) return operation
        const { op, id, data } = operation
        const task = op === 'update' && typeof id === 'number' ? String(id) : undefined
        return { ...operation, data: await taskInApiWords(data, task, hasNoPriority) }
      }),
    ),
  }
}

/** @returns undefined if there is nothing in it to translate; what is no JSON is refused later */
function parse(bytes: Uint8Array): Body | undefined {
  try {
    const text = utf8.decode(bytes)
    const value: unknown = words.test(text) ? JSON.parse(text) : undefined
    // Throws if it could not be written again: nested too deep, or with a number like 1e999.
    JSON.stringify(value, expectFinite)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function expectFinite(_name: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new RangeError('Not finite')
  return value
}

/** A `medium` that comes alone was chosen; one among other fields may be what was read. */
function hasOthers(body: Body): boolean {
  return Object.keys(body).some(
    (name) => name !== 'priority' && Object.hasOwn(TaskChanges.properties, name),
  )
}

/** The fields in the API's own words. Front ends send back whole tasks with one field changed. */
export function fieldsOf({ is_completed: isCompleted, ...body }: Body): Body {
  const { status, priority, completed, completed_at: completedAt } = body
  const spellings = [isCompleted, completed, statuses.get(status)].filter((is) => is !== undefined)
  if (spellings.length > 0) {
    // Of several spellings, the one that is no longer what was read.
    const changed = spellings.find((is) => is !== (completedAt !== null))
    body['completed'] = (completedAt === undefined ? undefined : changed) ?? spellings[0]
  }
  if (typeof priority === 'string') body['priority'] = priority.toLowerCase()
  return withDue(body)
}

function withDue(body: Body): Body {
  const { due_date: due, due_at: wasDue, due_timezone: zone } = body
  // What needs a date goes with it.
  if (due === null) for (const name of ['due_time', 'due_timezone', 'recurrence']) delete body[name]
  if (typeof due !== 'string') return body
  if (due === wasDue) return { ...body, due_date: localDate(due, zone) }
  const [, date, time] = localTime.exec(due) ?? []
  return time === undefined ? body : { ...body, due_date: date, due_time: time, due_timezone: null }
}

/** The day of an instant in a zone: what the task had, if nobody has changed either. */
function localDate(instant: string, zone: unknown): string | undefined {
  if (typeof zone !== 'string') return undefined
  try {
    return Temporal.Instant.from(instant).toZonedDateTimeISO(zone).toPlainDate().toString()
  } catch {
    return undefined // Without the date, the rest of the body says what is wrong.
  }
}
