import type { Sql } from 'postgres'
import { eventually } from '../tests/support/eventually.ts'
import { followEvents } from '../tests/support/follower.ts'
import { createRandom } from '../tests/support/random.ts'
import { createActor, type Actor } from './actor.ts'
import type { Client } from './client.ts'
import { counterOf, createNotebook, readRows, type Ending, type User } from './notebook.ts'
import type { Report } from './report.ts'

export type LoadOptions = {
  client: Client
  report: Report
  users: User[]
  /** Where each server is now. Clients are spread over them. */
  servers: (() => string)[]
  seed: number
  /** Tells what the database has in the end, past the API. */
  admin?: Sql
  pace?: typeof steady
  /** Whether the tables are migrated meanwhile, so that nobody can follow all events. */
  isMigrated?: boolean
  /** Whether servers of another version take part, which count lists in another way. */
  isMixed?: boolean
}

/**
 * Two writers, and a reader who does not wait for Retry-After and so sees when service is back. Every
 * write has an Idempotency-Key and is sent until it is answered: what became of it is known.
 */
const steady = {
  writers: 2,
  keyed: true,
  betweenActs: 80, // ms
  betweenReads: 50, // ms
  /** What the users' paths begin with, in turn. */
  prefixes: [''],
}
const patience = 20_000 // ms

/**
 * For each user some clients that do at random what the API offers, and a follower of events. In the
 * end an order of what took effect must explain every answer, and lead to what is there.
 */
export function startLoad(options: LoadOptions) {
  const { client, report, users, servers, seed, pace = steady, isMigrated = false } = options
  const { isMixed = isMigrated } = options
  let isRunning = true
  let acts = 0
  for (const figure of ['acknowledged writes', 'writes lost', 'duplicates', 'wrong answers'])
    report.count(figure, 0)

  async function keep(step: () => Promise<void>, pause: number): Promise<void> {
    while (isRunning) {
      await step()
      if (pause > 0) await Bun.sleep(pause)
    }
  }

  const notebooks = users.map(createNotebook)
  const workplaces = notebooks.map((notebook, index) => {
    const prefix = pace.prefixes[index % pace.prefixes.length]!
    const originOf = (number: number) => () =>
      servers[(index + number) % servers.length]!() + prefix
    function hire(number: number): Actor {
      const next = createRandom(seed + index * 100 + number)
      const others = notebooks.filter((other) => other !== notebook)
      const who = { notebook, others, origin: originOf(number), next }
      return createActor({
        client,
        report,
        keyed: pace.keyed,
        isDialect: prefix !== '',
        mayForget: isMigrated,
        takesBulk: !isMixed,
        ...who,
      })
    }
    const reader = hire(0)
    const writers = Array.from({ length: pace.writers }, (_, number) => hire(number + 1))
    async function act(writer: Actor): Promise<void> {
      acts += 1
      await writer.act()
    }
    return {
      notebook,
      reader,
      writers,
      follower: isMigrated ? undefined : followEvents(notebook.user, originOf(1)),
      running: [
        keep(async () => reader.look(), pace.betweenReads),
        ...writers.map(async (writer) => keep(async () => act(writer), pace.betweenActs)),
      ],
    }
  })

  return {
    /** How many things were done so far, without those of the reader. */
    acts: () => acts,
    /** Waits until every writer has got through once more. */
    async goesOn(): Promise<void> {
      const writers = workplaces.flatMap((workplace) => workplace.writers)
      const before = writers.map((writer) => writer.answered())
      await eventually(
        'every writer gets through',
        async () => writers.every((writer, index) => writer.answered() > before[index]!),
        patience,
      ).catch((error: Error) => report.violation(error.message))
    },
    /** Ends the load and checks all of it. */
    async check(): Promise<void> {
      isRunning = false
      for (const { running } of workplaces) await Promise.all(running)
      for (const workplace of workplaces) await checkWorkplace(workplace, options)
    },
  }
}

type Workplace = {
  notebook: ReturnType<typeof createNotebook>
  reader: Actor
  follower: ReturnType<typeof followEvents> | undefined
}

async function checkWorkplace(
  { notebook, reader, follower }: Workplace,
  { report, admin, isMigrated = false, isMixed = isMigrated }: LoadOptions,
): Promise<void> {
  const [list, trash] = [await reader.readAll('list'), await reader.readAll('trash')]
  if (list === undefined || trash === undefined)
    return report.violation('the lists cannot be read in the end')
  const told: Ending = {
    rows: [list, trash].flatMap(({ body }) =>
      body.map((task) => ({ ...task, is_trashed: body === trash.body })),
    ),
    counter: counterOf(list.headers.get('sync-token')!),
    count: Number(list.headers.get('x-total-count')),
  }
  const ending = admin ? await readRows(admin, notebook.user) : told
  notebook.check({ ...ending, counter: isMixed ? undefined : ending.counter }, report)
  if (follower === undefined) return
  const listed = ending.rows.filter((row) => !row.is_trashed)
  const isCopied = async () =>
    follower.copy.size === listed.length &&
    listed.every(({ id, version }) => follower.copy.get(id)?.version === version)
  const problems = await eventually('the follower has seen it all', isCopied, patience).then(
    () => follower.problems,
    (error: Error) => [...follower.problems, error.message],
  )
  for (const problem of problems) {
    report.count('wrong answers')
    report.violation(`the follower: ${problem}`)
  }
  await follower.end()
}
