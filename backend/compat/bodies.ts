import { isObject, usualBody } from '../http/body.ts'
import { isInstant } from '../http/values.ts'
import { mostBulkBytes, mostOperations } from '../tasks/bulk.ts'
import { TaskChanges, type Task } from '../tasks/schemas.ts'
import { rememberSent } from '../tasks/sent-body.ts'
import type { Destination } from './paths.ts'

declare global {
  // ECMAScript 2026, "JSON.rawJSON": not yet in TypeScript's own declarations.
  interface JSON {
    rawJSON(text: string): unknown
  }
}

type Body = Record<string, unknown>

/** Gives those of the user's tasks, as they are kept, that have one of these ids. */
export type FindKept = (ids: readonly number[]) => Promise<Map<number, Task>>

const words = /"(?:is_completed|status|priority|due_date)"/
const statuses = new Map([
  ['completed', true],
  ['pending', false],
  ['in_progress', false],
])
/** As a form has it: a date and a time of day, and no zone. */
const localTime = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::[0-5]\d(?:\.\d+)?)?$/
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
    const bodies = isBulk ? bodiesIn(given) : [{ id, body: fieldsOf(given) }]
    const inOne = (all: ForTask[]) => (isBulk ? withBodies(given, all) : all[0]!.body)
    const unsure = bodies
      .filter(({ body }) => isUnsure(body))
      .flatMap(({ id: task }) => (task !== undefined && isId(task) ? task : []))
    if (unsure.length > 0) rememberSent(request, inOne(bodies.map(withoutUnknown)))
    const kept = unsure.length > 0 ? await findKept(unsure) : new Map<number, Task>()
    for (const { id: task, body } of bodies) keepAsRead(body, kept.get(task ?? 0))
    return Buffer.from(JSON.stringify(inOne(bodies.map(withForm)), keepHuge))
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

/** The body of a request for one task, which is changed here, and its id; absent if it is a new one. */
type ForTask = { place?: number; id: number | undefined; body: Body }

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
      body: fieldsOf(data),
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

/** Whether a value may be one that we sent and the client merely returned. Only the stored task can tell. */
function isUnsure(body: Body): boolean {
  const { due_date: due } = body
  return (
    isMediumReadBack(body) ||
    due === null ||
    (typeof due === 'string' && (isInstant(due) || localTime.test(due)))
  )
}

/** A `medium` that comes alone was chosen; one among other fields may be what was read. */
function isMediumReadBack(body: Body): boolean {
  return (
    body['priority'] === 'medium' &&
    Object.keys(body).some(
      (name) => name !== 'priority' && Object.hasOwn(TaskChanges.properties, name),
    )
  )
}

/** Puts the stored values back in place of those that the client returned unchanged. */
function keepAsRead(body: Body, kept: Task | undefined): void {
  const { due_date: due } = body
  const local = localDateIn(body)
  if (kept?.due_at !== due && local !== undefined) body['due_date'] = local
  if (kept === undefined) return
  if (kept.priority === 'none' && isMediumReadBack(body)) delete body['priority']
  if (typeof due === 'string' && kept.due_at !== null && isReadBack(due, kept.due_at))
    body['due_date'] = kept.due_date
  // These need a date: if they came back unchanged, they are cleared along with it.
  if (due === null)
    for (const name of ['due_time', 'due_timezone', 'recurrence'] as const)
      if (body[name] === kept[name]) delete body[name]
}

/** Forms cut off what their input does not take, and often nothing else: `2027-01-06T08:30`. */
function isReadBack(due: string, dueAt: string): boolean {
  if (localTime.test(due)) return dueAt.startsWith(due.slice(0, 'yyyy-mm-ddThh:mm'.length))
  return isInstant(due) && isSame(due, dueAt)
}

function isSame(one: string, other: string): boolean {
  return Temporal.Instant.compare(one, other) === 0
}

/** The fields in the API's own words. Front ends send back whole tasks with one field changed. */
function fieldsOf({ is_completed: isCompleted, ...body }: Body): Body {
  const { status, priority, completed, completed_at: completedAt } = body
  const ofStatus = typeof status === 'string' ? statuses.get(status.toLowerCase()) : undefined
  const spellings = [isCompleted, completed, ofStatus].filter((is) => is !== undefined)
  if (spellings.length > 0) body['completed'] = changedOf(spellings, completedAt)
  if (typeof priority === 'string') body['priority'] = priority.toLowerCase()
  return body
}

/** If several spellings disagree, the one that was changed counts: a client knows one of them. */
function changedOf(spellings: unknown[], completedAt: unknown): unknown {
  const [first, second, third] = spellings
  if (spellings.length === 3) return first === second ? third : first === third ? second : first
  if (completedAt === undefined) return first
  return spellings.find((is) => is !== (completedAt !== null)) ?? first
}

/**
 * The date of a whole task that was read, and is a new one now or comes back when the task has changed: its
 * instant, its time and its zone belong together, and the instant was only shown.
 */
function localDateIn({ due_date: due, due_at: dueAt, ...body }: Body): string | undefined {
  const { due_time: time, due_timezone: zone } = body
  if (typeof due !== 'string' || typeof dueAt !== 'string' || typeof zone !== 'string') return
  if (!isInstant(due) || !isInstant(dueAt) || !isSame(due, dueAt)) return
  try {
    const local = Temporal.Instant.from(dueAt).toZonedDateTimeISO(zone)
    const isThen = local.toPlainTime().toString({ smallestUnit: 'minute' }) === time
    return isThen ? local.toPlainDate().toString() : undefined
  } catch {
    return undefined // no zone that this knows
  }
}

/** A form's date and time of day, as the API has them. */
function withForm(task: ForTask): ForTask {
  const { due_date: due } = task.body
  const [, date, time] = (typeof due === 'string' && localTime.exec(due)) || []
  if (time === undefined) return task
  return { ...task, body: { ...task.body, due_date: date, due_time: time, due_timezone: null } }
}
