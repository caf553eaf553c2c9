import type { Fields, Write } from './history.ts'
import { creationTag } from './notebook.ts'
import { createReader } from './reader.ts'
import { createStranger, type Cast } from './stranger.ts'
import { createWriter, type Operation } from './writer.ts'

export type Actor = ReturnType<typeof createActor>

type ActorCast = Cast & {
  /** Whether every write is sent under a key until it is answered; otherwise half of them are. */
  keyed: boolean
  /** Whether the API is asked for in another shape, in which no priority is read as medium. */
  isDialect: boolean
  /** Whether a server may say that a Sync-Token is too old. */
  mayForget: boolean
  /** Whether all servers take several writes in one request. */
  takesBulk: boolean
}

const recentTasks = 6 // of a user, which all clients work on

/** A client of a user that does at random what the API offers, and notes all that it learns. */
export function createActor(cast: ActorCast) {
  const { client, report, notebook, origin, next, keyed, mayForget, isDialect, takesBulk } = cast
  const { token } = notebook.user
  const priorities = isDialect ? ['low', 'high'] : ['none', 'low', 'medium', 'high']
  const versions = new Map<number, number>()
  const person = { client, notebook, token, origin, versions }
  const reader = createReader(person)
  const writer = createWriter(person, reader, report)
  const stranger = createStranger(cast)
  const oneOf = <Value>(values: readonly Value[]): Value => values[next(values.length)]!

  function randomFields(): Fields {
    return {
      ...(next(2) === 0 && { title: crypto.randomUUID() }),
      ...(next(2) === 0 && { description: next(3) === 0 ? null : `${next(1_000_000)}` }),
      ...(next(4) === 0 && { completed: next(2) === 0 }),
      ...(next(3) === 0 && { priority: oneOf(priorities) }),
    }
  }

  const bodyOf = (fields: Fields | undefined) => (isDialect ? inDialect(fields) : fields)

  async function send(
    write: Write,
    id: number | undefined,
    [method, path, body]: [string, string, Fields?],
  ): Promise<void> {
    const version = id === undefined ? undefined : versions.get(id)
    const onlyAt = next(3) === 0 ? version : undefined
    return writer.send(write, id, [method, path, bodyOf(body)], {
      keyed: keyed || next(2) === 0,
      onlyAt,
    })
  }

  function newTask() {
    const title = crypto.randomUUID()
    const fields = { priority: oneOf(priorities), ...randomFields(), title }
    return { fields, json: { ...fields, tags: [creationTag(title)] } }
  }

  async function create(): Promise<void> {
    const { fields, json } = newTask()
    return send({ does: 'create', fields }, undefined, ['POST', '/api/tasks', json])
  }

  function operationOn(id: number): Operation {
    const onTask = { id, onlyAt: next(3) === 0 ? versions.get(id) : undefined }
    const what = next(4)
    if (what === 0) return { ...onTask, op: 'delete', write: { does: 'remove' } }
    if (what === 1) return { ...onTask, op: 'restore', write: { does: 'restore' } }
    if (what === 2) {
      const fields = { completed: next(2) === 0 }
      return { ...onTask, op: 'complete', write: { does: 'update', fields }, data: bodyOf(fields) }
    }
    const fields = { ...randomFields(), priority: oneOf(priorities) }
    return { ...onTask, op: 'update', write: { does: 'update', fields }, data: bodyOf(fields) }
  }

  async function sendTogether(): Promise<void> {
    const ids = new Set(Array.from({ length: 3 }, () => oneOf(notebook.ids().slice(-recentTasks))))
    const operations = [...ids].map(operationOn)
    const { fields, json } = newTask()
    if (next(3) === 0)
      operations.push({ op: 'create', write: { does: 'create', fields }, data: bodyOf(json) })
    const manner = { keyed: keyed || next(2) === 0, atomic: next(2) === 0 }
    return writer.sendTogether(operations, manner)
  }

  return {
    ...reader,
    /** How many of its writes were answered. */
    answered: writer.answered,
    /** Reads one of the user's tasks. */
    async look(): Promise<void> {
      const id = oneOf(notebook.ids())
      if (id !== undefined) await reader.readOne(id)
    },
    async act(): Promise<void> {
      const id = oneOf(notebook.ids().slice(-recentTasks))
      const what = next(100)
      if (id === undefined || what < 10) return create()
      const path = `/api/tasks/${id}`
      if (what < 33) {
        const fields = { ...randomFields(), priority: oneOf(priorities) }
        return send({ does: 'update', fields }, id, [oneOf(['PUT', 'PATCH']), path, fields])
      }
      if (what < 43) return send({ does: 'toggle' }, id, ['PATCH', `${path}/complete`])
      if (what < 47) {
        const fields = { completed: next(2) === 0 }
        return send({ does: 'update', fields }, id, ['PATCH', `${path}/complete`, fields])
      }
      if (what < 55) return send({ does: 'remove' }, id, ['DELETE', path])
      if (what < 64) return send({ does: 'restore' }, id, ['POST', `${path}/restore`])
      if (what < 66) return send({ does: 'destroy' }, id, ['DELETE', `${path}?permanent=true`])
      if (what < 72 && takesBulk) return sendTogether()
      if (what < 85) return reader.readOne(id)
      if (what < 90) return void (await reader.readAll('list'))
      if (what < 93) return void (await reader.readAll('trash'))
      if (what < 98) return reader.readChanges(mayForget)
      return stranger.trespass()
    },
  }
}

function inDialect(body: Fields | undefined): object | undefined {
  if (body?.completed === undefined) return body
  const { completed, ...fields } = body
  return { ...fields, is_completed: completed }
}
