import type { TaskBody } from '../tests/support/api.ts'
import { eventually } from '../tests/support/eventually.ts'
import { followEvents } from '../tests/support/follower.ts'
import type { Client } from './client.ts'
import { createRandom, type Random } from '../tests/support/random.ts'
import type { Report } from './report.ts'

export type User = { id: string; token: string }

/** What a user's rows are in the database. */
export type Row = {
  id: number
  title: string
  completed: boolean
  version: number
  is_trashed: boolean
}

type Place = 'list' | 'trash' | 'nowhere'

/** A task as the last acknowledged write left it. Only one writer changes it. */
type Kept = {
  id: number
  title: string
  completed: boolean
  version: number
  place: Place
  /** A write has been sent and not yet been answered. */
  isChanging: boolean
}

export type LoadOptions = {
  client: Client
  report: Report
  users: User[]
  /** Where each server is now. Clients are spread over them. */
  servers: (() => string)[]
  seed: number
  /** Whether somebody follows the events of each user. */
  followed?: boolean
}

export type Load = ReturnType<typeof startLoad>

const writersPerUser = 2
const betweenWrites = 80 // ms
const betweenReads = 50 // ms; they do not wait for Retry-After, and so see when service is back
const patience = 20_000 // ms
const tasksAtWork = 20 // of one writer, so that tasks have histories

/**
 * A steady load: for each user two writers, a reader and a follower of events. Every write has an
 * Idempotency-Key and is sent again until it is answered, so that what the database must hold in the
 * end is known exactly.
 */
export function startLoad({ client, report, users, servers, seed, followed = true }: LoadOptions) {
  let isRunning = true
  for (const figure of ['acknowledged writes', 'writes lost', 'duplicates', 'wrong answers'])
    report.count(figure, 0)

  function wrong(what: string, figure = 'wrong answers'): void {
    report.count(figure)
    report.violation(what)
  }

  const origin = (index: number) => servers[index % servers.length]!

  const workplaces = users.map((user, index) => {
    const tasks = new Map<number, Kept>()
    const writers = Array.from({ length: writersPerUser }, (_, number) =>
      createWriter(user, tasks, origin(index + number), createRandom(seed + index * 100 + number)),
    )
    return {
      user,
      tasks,
      writers,
      follower: followed ? followEvents(user, origin(index + 1)) : undefined,
      running: [
        ...writers.map(async (writer) => keep(writer.step, betweenWrites)),
        keep(createReader(user, tasks, origin(index), createRandom(seed - index)), betweenReads),
      ],
    }
  })

  async function keep(step: () => Promise<void>, pause: number): Promise<void> {
    while (isRunning) {
      await step()
      await Bun.sleep(pause)
    }
  }

  function createWriter(
    { token }: User,
    tasks: Map<number, Kept>,
    server: () => string,
    next: Random,
  ) {
    const own: Kept[] = []
    let written = 0

    async function create(): Promise<void> {
      const json = { title: crypto.randomUUID() }
      const key = crypto.randomUUID()
      const answer = await client.write<TaskBody>(server, 'POST', '/api/tasks', {
        token,
        json,
        key,
      })
      if (answer === undefined) return
      report.count('acknowledged writes')
      const { id, title, completed, version } = answer.body
      if (title !== json.title || completed || version !== 1)
        wrong(`created ${JSON.stringify(json)}, answered ${JSON.stringify(answer.body)}`)
      if (tasks.has(id)) wrong(`task ${id} was created twice`)
      const task: Kept = { id, title, completed, version, place: 'list', isChanging: false }
      tasks.set(id, task)
      own.push(task)
    }

    async function change(
      task: Kept,
      [method, path]: [string, string],
      json: object | undefined,
      effect: Partial<Kept>,
    ): Promise<void> {
      task.isChanging = true
      const key = crypto.randomUUID()
      const answer = await client.write<TaskBody | undefined>(
        server,
        method,
        `/api/tasks/${task.id}${path}`,
        { token, json, key, headers: { 'if-match': `"${task.version}"` } },
      )
      if (answer === undefined) return
      report.count('acknowledged writes')
      Object.assign(task, effect, { version: task.version + 1, isChanging: false })
      const { body } = answer
      if (
        body !== undefined &&
        (body.version !== task.version ||
          body.title !== task.title ||
          body.completed !== task.completed)
      )
        wrong(`${method} made ${JSON.stringify(task)}, answered ${JSON.stringify(body)}`)
    }

    async function step(): Promise<void> {
      const recent = own.slice(-tasksAtWork)
      const task = recent[next(Math.max(recent.length, 1))]
      const what = next(10)
      if (task === undefined || task.isChanging || what < 4) await create()
      else if (task.place === 'trash')
        if (what < 8) await change(task, ['POST', '/restore'], undefined, { place: 'list' })
        else await change(task, ['DELETE', '?permanent=true'], undefined, { place: 'nowhere' })
      else if (task.place === 'nowhere') await create()
      else if (what < 6) {
        const title = crypto.randomUUID()
        await change(task, [what < 5 ? 'PUT' : 'PATCH', ''], { title }, { title })
      } else if (what < 8)
        await change(task, ['PATCH', '/complete'], undefined, { completed: !task.completed })
      else await change(task, ['DELETE', ''], undefined, { place: 'trash' })
      written += 1
    }

    return { step, written: () => written }
  }

  /** Reads a task, and holds the answer to what was acknowledged when it was asked for. */
  function createReader(
    { token }: User,
    tasks: Map<number, Kept>,
    server: () => string,
    next: Random,
  ) {
    let ids: number[] = []
    return async function read(): Promise<void> {
      if (ids.length < tasks.size) ids = [...tasks.keys()]
      const task = tasks.get(ids[next(Math.max(ids.length, 1))] ?? 0)
      if (task === undefined) return
      const before = { ...task }
      const path = `/api/tasks/${task.id}`
      const outcome = await client.ask<TaskBody>(server(), 'GET', path, { token }, [404])
      if (outcome === 'lost' || outcome.status === 503) return
      // It may have been changed while it was read.
      if (before.isChanging || task.isChanging || task.version !== before.version) return
      const isThere = outcome.status === 200
      const { version, title, completed } = outcome.body
      if (
        isThere !== (task.place === 'list') ||
        (isThere &&
          (version !== task.version || title !== task.title || completed !== task.completed))
      )
        wrong(
          `${JSON.stringify(task)} was read as ${outcome.status} ${JSON.stringify(outcome.body)}`,
        )
    }
  }

  /** Compares what was acknowledged with what is there, by version and place. */
  function compare(source: string, wanted: Kept[], found: Row[]): void {
    const byId = new Map(found.map((row) => [row.id, row]))
    for (const task of wanted) {
      const row = byId.get(task.id)
      byId.delete(task.id)
      if (row === undefined || row.version < task.version)
        wrong(`${source} has lost ${JSON.stringify(task)}: ${JSON.stringify(row)}`, 'writes lost')
      else if (row.version > task.version)
        wrong(`${source} wrote ${JSON.stringify(task)} twice: ${JSON.stringify(row)}`, 'duplicates')
      else if (
        row.title !== task.title ||
        row.completed !== task.completed ||
        row.is_trashed !== (task.place === 'trash')
      )
        wrong(`${source} has ${JSON.stringify(row)} for ${JSON.stringify(task)}`)
    }
    for (const row of byId.values())
      wrong(`${source} has what nobody wrote: ${JSON.stringify(row)}`, 'duplicates')
  }

  async function readThroughApi({ token }: User): Promise<Row[]> {
    const places = [
      { path: '/api/tasks', is_trashed: false },
      { path: '/api/tasks/trash', is_trashed: true },
    ]
    const rows = []
    for (const { path, is_trashed } of places) {
      const outcome = await client.ask<TaskBody[]>(servers[0]!(), 'GET', path, { token })
      if (outcome === 'lost' || outcome.status !== 200) throw new Error(`${path} is not there`)
      for (const { id, title, completed, version } of outcome.body)
        rows.push({ id, title, completed, version, is_trashed })
    }
    return rows
  }

  return {
    /** Waits until every writer has got through once more. */
    async goesOn(): Promise<void> {
      const writers = workplaces.flatMap((workplace) => workplace.writers)
      const before = writers.map((writer) => writer.written())
      await eventually(
        'every writer gets through',
        async () => writers.every((writer, index) => writer.written() > before[index]!),
        patience,
      ).catch((error: Error) => report.violation(error.message))
    },

    /**
     * Ends the load and checks all of it.
     *
     * @param rowsOf reads a user's rows past the API, if there is a way
     */
    async check(rowsOf?: (user: User) => Promise<Row[]>): Promise<void> {
      isRunning = false
      for (const { user, tasks, running, follower } of workplaces) {
        await Promise.all(running)
        const wanted = [...tasks.values()].filter(({ place }) => place !== 'nowhere')
        if (rowsOf) compare('the database', wanted, await rowsOf(user))
        compare('the API', wanted, await readThroughApi(user))
        if (follower === undefined) continue
        const listed = wanted.filter(({ place }) => place === 'list')
        const isCopied = async () =>
          follower.copy.size === listed.length &&
          listed.every(({ id, version }) => follower.copy.get(id)?.version === version)
        await eventually('the follower has seen it all', isCopied, patience).catch((error: Error) =>
          wrong(error.message),
        )
        for (const problem of follower.problems) wrong(`the follower: ${problem}`)
        await follower.end()
      }
    },
  }
}
