import { newUser, tokenFor, type TaskBody } from '../tests/support/api.ts'
import { createClient, type Outcome, type Span } from './client.ts'
import {
  judge,
  type Absence,
  type Fields,
  type History,
  type Sight,
  type State,
  type Write,
  type WriteEvent,
} from './history.ts'
import type { Battery } from './main.ts'
import { createRandom, type Random } from '../tests/support/random.ts'
import type { Report } from './report.ts'
import { buildStand, type Stand } from './stand.ts'

const operations = { short: 2_000, long: 100_000 }
const clientsPerUser = 3
const usersAtOnce = 6
const recentTasks = 6 // of a user, which all clients work on
const betweenFaults = 1_500 // ms

const ever: Span = { from: -Infinity, until: Infinity }

type User = Awaited<ReturnType<typeof newUser>>
type Timed = { began: number; ended: number }
type Answer = Exclude<Outcome<TaskBody & { current?: TaskBody }>, 'lost'>

/** What the clients of one user know together, and all that they did and learned. */
type Notebook = {
  user: User
  /** Where all of them send their requests: the API itself, or a dialect of it. */
  api: '' | '/compat/array'
  /** The tasks by their ids, in the order in which they were heard of. */
  histories: Map<number, History>
  /** Creations of which nobody knows what became, by the tag that the task would have. */
  lostCreations: Map<string, WriteEvent>
  /** When it was first known that a task is there. */
  knownSince: Map<number, number>
  /** The counters of lists, to be compared with each other. */
  lists: (Timed & { token: string; text: string })[]
}

const creationTag = (title: string) => `created as ${title}`

/**
 * Several users, each with several clients, do at random what the API offers, under faults. What they
 * were answered must be explained by an order of what took effect: see `judge`.
 */
export async function histories({ postgres, report, seed, short }: Battery): Promise<void> {
  const stand = await buildStand(postgres)
  const client = createClient(report, stand.whyFailed)
  client.excuse({ unavailable: () => ever, cut: ever })
  for (const figure of ['operations in histories', 'acknowledged writes', 'wrong answers'])
    report.count(figure, 0)
  const notebooks: Notebook[] = []
  for (let index = 0; index < usersAtOnce; index += 1)
    notebooks.push({
      user: await newUser(),
      api: index % 2 === 0 ? '' : '/compat/array',
      histories: new Map(),
      lostCreations: new Map(),
      knownSince: new Map(),
      lists: [],
    })

  let left = operations[short ? 'short' : 'long']
  const takeOne = () => left-- > 0
  const working = notebooks.flatMap((notebook, index) =>
    Array.from({ length: clientsPerUser }, async (_, number) => {
      const next = createRandom(seed + 1 + index * clientsPerUser + number)
      const others = notebooks.filter((other) => other !== notebook)
      const actor = await createActor({ client, report, stand, notebook, others, next })
      while (takeOne()) {
        report.count('operations in histories')
        await actor()
      }
    }),
  )
  const disturbing = disturb(stand, createRandom(seed), { report, short, isOver: () => left <= 0 })
  await Promise.all(working)
  await disturbing
  for (const notebook of notebooks) await checkHistories(notebook, stand, report)
  await stand.close()
}

async function disturb(
  { terminate, proxy, places, postgres, pgbouncer }: Stand,
  next: Random,
  { report, short, isOver }: { report: Report; short: boolean; isOver: () => boolean },
): Promise<void> {
  const faults: (() => Promise<unknown>)[] = [
    terminate,
    async () => proxy.reset(),
    async () => proxy.halfClose(),
    async () => pgbouncer.restart(),
  ]
  if (!short)
    faults.push(
      async () => places[next(places.length)]!.restart('SIGKILL'),
      async () => {
        await postgres.kill()
        await postgres.start()
      },
    )
  for (;;) {
    await Bun.sleep(betweenFaults)
    if (isOver()) return
    // A fault may hit while the last one is not over yet, and fail for that.
    await faults[next(faults.length)]!().catch((error: Error) => report.progress(error.message))
    report.count('faults injected')
  }
}

type Cast = {
  client: ReturnType<typeof createClient>
  report: Report
  stand: Stand
  notebook: Notebook
  others: Notebook[]
  next: Random
}

/** A client of a user with a token of its own. Each call does one thing. */
async function createActor({ client, report, stand, notebook, others, next }: Cast) {
  const { user, api, histories: tasks, lostCreations } = notebook
  const token = await tokenFor(user.id)
  const expired = await tokenFor(user.id, { exp: Math.floor(Date.now() / 1000) - 60 })
  const oneOf = <Value>(values: readonly Value[]): Value => values[next(values.length)]!
  const origin = () => oneOf(stand.places).origin()
  const versions = new Map<number, number>()
  // A dialect shows no priority as medium, and leaves it alone when that comes back.
  const priorities = api === '' ? ['none', 'low', 'medium', 'high'] : ['low', 'high']
  let syncToken: string | undefined

  function historyOf(id: number): History {
    const history = tasks.get(id) ?? { writes: [], sights: [], absences: [] }
    return tasks.set(id, history).get(id)!
  }

  function see(task: TaskBody, place: State['place'], { began, ended }: Timed): void {
    const history = historyOf(task.id)
    if (!notebook.knownSince.has(task.id)) notebook.knownSince.set(task.id, ended)
    versions.set(task.id, task.version)
    const sight: Sight = { version: task.version, shown: stateOf(task, place), began, ended }
    history.sights.push(sight)
    adopt(task, history)
  }

  /** A creation without an answer took effect after all. */
  function adopt({ tags }: TaskBody, history: History): void {
    const event = lostCreations.get(tags[0] ?? '')
    if (event === undefined) return
    lostCreations.delete(tags[0]!)
    history.writes.push(event)
  }

  async function timed<Answered>(asking: Promise<Answered>): Promise<[Answered, Timed]> {
    const began = performance.now()
    const answered = await asking
    return [answered, { began, ended: performance.now() }]
  }

  function randomFields(): Fields {
    const title = crypto.randomUUID()
    return {
      ...(next(2) === 0 && { title }),
      ...(next(2) === 0 && { description: next(3) === 0 ? null : `${next(1_000_000)}` }),
      ...(next(4) === 0 && { completed: next(2) === 0 }),
      ...(next(3) === 0 && { priority: oneOf(priorities) }),
    }
  }

  /** Sends a write, once or under a key until it is answered, and notes what may have become of it. */
  async function send(
    write: Write,
    id: number | undefined,
    [method, path, body]: [string, string, Fields?],
  ): Promise<void> {
    const json = api === '' ? body : inDialect(body)
    const version = id === undefined ? undefined : versions.get(id)
    const onlyAt = version !== undefined && next(3) === 0 ? version : undefined
    const headers = { ...(onlyAt !== undefined && { 'if-match': `"${onlyAt}"` }) }
    const options = { token, json, headers }
    const expected = [404, 412]
    const began = performance.now()
    const answer = await (next(2) === 0
      ? client.write<Answer['body']>(
          origin,
          method,
          path,
          { ...options, key: crypto.randomUUID() },
          expected,
        )
      : client
          .ask<Answer['body']>(origin(), method, path, options, expected)
          .then((outcome) =>
            outcome === 'lost' || outcome.status === 503
              ? undefined
              : { ...outcome, isRepeated: false },
          ))
    const ended = performance.now()
    const event = { write, ...(onlyAt !== undefined && { onlyAt }), began }
    if (answer === undefined || (answer.status >= 400 && answer.isRepeated)) {
      const lost: WriteEvent = { ...event, ended: Infinity, outcome: { is: 'unknown' } }
      if (write.does === 'create') lostCreations.set(creationTag(write.fields.title!), lost)
      else historyOf(id!).writes.push(lost)
    }
    if (answer === undefined) return
    noteAnswer(answer, { ...event, ended }, id)
  }

  function noteAnswer(
    { status, body }: Answer,
    event: Omit<WriteEvent, 'outcome'>,
    id: number | undefined,
  ): void {
    const { write, onlyAt } = event
    if (status < 300) {
      report.count('acknowledged writes')
      const history = historyOf(body?.id ?? id!)
      const task = write.does === 'remove' || write.does === 'destroy' ? undefined : body
      const shown = task && { version: task.version, shown: stateOf(task, 'list') }
      history.writes.push({ ...event, outcome: { is: 'done', ...shown } })
      if (task === undefined) return
      versions.set(task.id, task.version)
      if (write.does === 'create') notebook.knownSince.set(task.id, event.ended)
    } else if (status === 412) {
      const { current } = body
      if (current!.version === onlyAt) report.violation(`412 for version ${onlyAt}, which it is`)
      // It was refused where it is: only restoring looks into the trash, and destroying anywhere.
      if (write.does !== 'destroy')
        see(current!, write.does === 'restore' ? 'trash' : 'list', event)
    } else if (id !== undefined) {
      const from: State['place'][] =
        write.does === 'restore'
          ? ['trash']
          : write.does === 'destroy'
            ? ['list', 'trash']
            : ['list']
      noteAbsence(id, { ...event, from })
    }
  }

  function noteAbsence(id: number, { began, ended, from }: Absence): void {
    historyOf(id).absences.push({ began, ended, from })
  }

  async function readOne(id: number): Promise<void> {
    const [outcome, time] = await timed(
      client.ask<TaskBody>(origin(), 'GET', `${api}/api/tasks/${id}`, { token }, [404]),
    )
    if (outcome === 'lost' || outcome.status === 503) return
    if (outcome.status === 200) see(outcome.body, 'list', time)
    else noteAbsence(id, { ...time, from: ['list'] })
  }

  /** Reads the list or the trash: what is in it was seen, and what is not was absent. */
  async function readAll(path: string, place: 'list' | 'trash'): Promise<void> {
    const [outcome, time] = await timed(client.ask<TaskBody[]>(origin(), 'GET', path, { token }))
    if (outcome === 'lost' || outcome.status !== 200) return
    const ids = new Set(outcome.body.map(({ id }) => id))
    for (const task of outcome.body) see(task, place, time)
    for (const [id, since] of notebook.knownSince)
      if (since < time.began && !ids.has(id)) noteAbsence(id, { ...time, from: [place] })
    const listed = outcome.headers.get('sync-token')
    if (listed !== null)
      notebook.lists.push({ ...time, token: listed, text: JSON.stringify(outcome.body) })
  }

  async function readChanges(): Promise<void> {
    const query = syncToken === undefined ? '' : `?since=${syncToken}`
    const [outcome, time] = await timed(
      client.ask<{ items: TaskBody[]; deleted: { id: number }[]; sync_token: string }>(
        origin(),
        'GET',
        `${api}/api/tasks/changes${query}`,
        { token },
      ),
    )
    if (outcome === 'lost' || outcome.status !== 200) return
    for (const task of outcome.body.items) see(task, 'list', time)
    for (const { id } of outcome.body.deleted)
      if (tasks.has(id)) noteAbsence(id, { ...time, from: ['list'] })
    syncToken = outcome.body.sync_token
  }

  /** What must be refused, and must have no effect. */
  async function trespass(): Promise<void> {
    const foreign = [...oneOf(others).histories.keys()].at(-1) ?? 1
    const path = `${api}/api/tasks/${foreign}`
    const [asked, wanted] = next(2) === 0 ? [{ token }, [403, 404]] : [{ token: expired }, [401]]
    const outcome = await client.ask(origin(), 'DELETE', path, asked, wanted)
    if (outcome !== 'lost' && outcome.status < 300) report.violation(`${path} let a stranger in`)
  }

  return async function act(): Promise<void> {
    const recent = [...tasks.keys()].slice(-recentTasks)
    const id = oneOf(recent)
    const what = next(100)
    if (id === undefined || what < 6) {
      const title = crypto.randomUUID()
      const fields = { priority: oneOf(priorities), ...randomFields(), title }
      const json = { ...fields, tags: [creationTag(title)] }
      return send({ does: 'create', fields }, undefined, ['POST', `${api}/api/tasks`, json])
    }
    const path = `${api}/api/tasks/${id}`
    if (what < 30) {
      const fields = { ...randomFields(), priority: oneOf(priorities) }
      return send({ does: 'update', fields }, id, [oneOf(['PUT', 'PATCH']), path, fields])
    }
    if (what < 40) return send({ does: 'toggle' }, id, ['PATCH', `${path}/complete`])
    if (what < 45) {
      const fields = { completed: next(2) === 0 }
      return send({ does: 'update', fields }, id, ['PATCH', `${path}/complete`, fields])
    }
    if (what < 53) return send({ does: 'remove' }, id, ['DELETE', path])
    if (what < 63) return send({ does: 'restore' }, id, ['POST', `${path}/restore`])
    if (what < 65) return send({ does: 'destroy' }, id, ['DELETE', `${path}?permanent=true`])
    if (what < 85) return readOne(id)
    if (what < 90) return readAll(`${api}/api/tasks`, 'list')
    if (what < 93) return readAll(`${api}/api/tasks/trash`, 'trash')
    if (what < 98) return readChanges()
    return trespass()
  }
}

function inDialect(body: Fields | undefined): object | undefined {
  const { completed, ...fields } = body ?? {}
  return body && { ...fields, ...(completed !== undefined && { is_completed: completed }) }
}

type Row = {
  id: number
  version: number
  title: string
  description: string | null
  completed: boolean
  priority: string
  tags: string[]
  is_trashed: boolean
}

async function checkHistories(
  { user, histories: tasks, lostCreations, lists }: Notebook,
  { admin }: Stand,
  report: Report,
): Promise<void> {
  const rows = await admin<Row[]>`
    select
      id::float8, version::float8, title, description, completed, priority::text, tags,
      deleted_at is not null as is_trashed
    from todo_api.tasks where user_id = ${user.id}`
  for (const row of rows) {
    const event = lostCreations.get(row.tags[0]!)
    const history = tasks.get(row.id) ?? { writes: [], sights: [], absences: [] }
    if (event) history.writes.push(event)
    tasks.set(row.id, history)
    history.last = { version: row.version, state: stateOf(row, row.is_trashed ? 'trash' : 'list') }
  }

  let effects = 0
  let isExact = true
  for (const [id, history] of tasks) {
    const verdict = judge(history)
    if ('problem' in verdict) {
      report.count('wrong answers')
      report.violation(`task ${id}: ${verdict.problem}`)
    } else effects += verdict.effects
    // Of a task that is gone nobody can tell whether the last unanswered writes had an effect.
    isExact &&= history.last !== undefined || history.writes.every(({ ended }) => ended < Infinity)
  }
  const [list] = await admin<{ counter: number; task_count: number }[]>`
    select counter::float8, task_count from todo_api.task_lists where user_id = ${user.id}`
  if (list && isExact && list.counter !== effects)
    report.violation(`the list counts ${list.counter} changes, and ${effects} explain it`)
  const listed = rows.filter((row) => !row.is_trashed).length
  if (list && list.task_count !== listed)
    report.violation(`the list counts ${list.task_count} tasks, and has ${listed}`)
  compareLists(lists, report)
}

/** Lists at the same number are the same, and who asks later gets no smaller number. */
function compareLists(lists: Notebook['lists'], report: Report): void {
  const numberOf = (token: string) => Number(token.split('.')[0])
  const texts = new Map<string, string>()
  for (const { token, text } of lists) {
    if ((texts.get(token) ?? text) !== text) report.violation(`two lists are at ${token}`)
    texts.set(token, text)
  }
  let seen = 0
  const byEnd = lists.toSorted((one, other) => one.ended - other.ended)
  let at = 0
  for (const { token, began } of lists.toSorted((one, other) => one.began - other.began)) {
    for (; at < byEnd.length && byEnd[at]!.ended < began; at += 1)
      seen = Math.max(seen, numberOf(byEnd[at]!.token))
    if (numberOf(token) < seen) report.violation(`a list is at ${token}, after one at ${seen}`)
  }
}

function stateOf(task: Omit<State, 'place'>, place: State['place']): State {
  const { title, description, completed, priority } = task
  return { title, description, completed, priority, place }
}
