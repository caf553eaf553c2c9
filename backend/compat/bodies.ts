import { maximumBodyBytes } from '../http/body.ts'
import { TaskChanges } from '../tasks/schemas.ts'

type Body = Record<string, unknown>

/** Whether the task that a body is for has no priority. */
export type HasNoPriority = () => Promise<boolean>

const words = /"(?:is_completed|priority|due_date)"/
const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Lets whoever reads the body of a request read it as the API would have it. Nothing is read before
 * they do: the token is looked at first.
 *
 * @param hasNoPriority absent if the body is for a new task
 */
export function translateBody(request: Request, hasNoPriority?: HasNoPriority): void {
  const translate = async (bytes: Uint8Array) => translateBytes(bytes, hasNoPriority)
  const readBytes = request.bytes.bind(request)
  let translated: ReadableStream<Uint8Array> | undefined
  Object.defineProperties(request, {
    bytes: { value: async () => translate(await readBytes()) },
    body: {
      get() {
        const body = nativeBody(request)
        return body && (translated ??= translateStream(body, translate))
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
): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunks: Uint8Array[] = []
        let size = 0
        for await (const chunk of body) {
          chunks.push(chunk)
          size += chunk.byteLength
          if (size > maximumBodyBytes) break
        }
        const bytes = Buffer.concat(chunks)
        controller.enqueue(size > maximumBodyBytes ? bytes : await translate(bytes))
        controller.close()
      },
    },
    // Or it would begin at once, though the framework only asks whether there is a body.
    { highWaterMark: 0 },
  )
}

async function translateBytes(
  bytes: Uint8Array,
  hasNoPriority: HasNoPriority | undefined,
): Promise<Uint8Array> {
  const given = parse(bytes)
  if (given === undefined) return bytes
  const body = fieldsOf(given)
  if (hasNoPriority && body['priority'] === 'medium' && hasOthers(body) && (await hasNoPriority()))
    delete body['priority']
  return Buffer.from(JSON.stringify(body))
}

/** @returns undefined if there is nothing in it to translate; what is no JSON is refused later */
function parse(bytes: Uint8Array): Body | undefined {
  try {
    const text = utf8.decode(bytes)
    const value: unknown = words.test(text) ? JSON.parse(text) : undefined
    // Throws if it is nested so deep that it could not be written again.
    JSON.stringify(value)
    return typeof value === 'object' && !Array.isArray(value) ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** A `medium` that comes alone was chosen; one among other fields may be what was read. */
function hasOthers(body: Body): boolean {
  return Object.keys(body).some((name) => name !== 'priority' && name in TaskChanges.properties)
}

/** The fields in the API's own words. Front ends send back whole tasks with one field changed. */
export function fieldsOf({ is_completed: isCompleted, ...body }: Body): Body {
  if (isCompleted !== undefined) {
    const { completed, completed_at: completedAt } = body
    const wasCompleted = completedAt === undefined ? completed : completedAt !== null
    // Of the two spellings, the one that is no longer what was read.
    if (completed === undefined || completed === wasCompleted) body['completed'] = isCompleted
  }
  if (typeof body['due_date'] === 'string' && body['due_date'] === body['due_at'])
    delete body['due_date']
  if (body['due_date'] === null) {
    delete body['due_time']
    delete body['due_timezone']
  }
  return body
}
