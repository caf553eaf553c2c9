import { $ } from 'bun'
import { rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { newUser, type TaskBody } from '../tests/support/api.ts'
import { temporaryDirectory } from '../tests/support/daemon.ts'
import { databaseUrl } from '../tests/support/postgres.ts'
import { repository, startServer } from '../tests/support/server.ts'
import { createClient, type Client, type Outcome } from './client.ts'
import { startLoad } from './load.ts'
import type { Battery } from './battery.ts'
import { createRandom } from '../tests/support/random.ts'
import { previousVersion } from './previous-version.ts'
import type { Report } from './report.ts'
import { startPlace } from './stand.ts'

/**
 * The previous version and this one side by side on one database, as while a new one is rolled out:
 * the old one makes the tables and writes, the new one migrates them under its hands, both serve, and
 * the old one comes back. In the end every write is there once, and every list counts its tasks.
 */
export async function versionsSideBySide({
  postgres,
  report,
  seed,
  short,
}: Battery): Promise<void> {
  const program = await checkOut(previousVersion)
  if (program === undefined)
    return report.progress(`left out: this checkout has no history with ${previousVersion}`)
  const database = await postgres.createDatabase()
  const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
  const settings = { MAX_TASKS_PER_USER: '1000000' }
  const admin = postgres.connectAsSuperuser(database)
  const client = createClient(report)
  const users = await Promise.all(Array.from({ length: 4 }, newUser))
  const soon = short ? 500 : 10_000 // ms

  const previous = await startPlace(async () => startServer(url, settings, program))
  // Its writers go on while the tables are migrated.
  const before = startLoad({
    client,
    report,
    users: [await newUser()],
    servers: [previous.origin],
    seed,
    isMigrated: true,
    admin,
  })
  await before.goesOn()
  const current = await startPlace(async () => startServer(url, settings))
  await before.goesOn()
  await before.check()

  const origins = { previous: previous.origin, current: current.origin }
  await recurAcross(client, report, origins)
  await keepAcross(client, report, origins)

  // Each version changes what the other wrote.
  const random = createRandom(seed)
  const either = () => [previous, current][random(2)]!.origin()
  const load = startLoad({
    client,
    report,
    users,
    servers: [either],
    seed,
    admin,
    isMixed: true,
  })
  await load.goesOn()
  await Bun.sleep(soon)
  for (const place of [previous, current]) {
    client.excuseCuts()
    await place.restart('SIGTERM')
    client.excuseCuts(performance.now())
    await load.goesOn()
    await Bun.sleep(soon)
  }
  await load.check()
  report.count('versions side by side', 2)
  report.progress(`${previousVersion} and this version on one database`)

  await Promise.all([previous.end(), current.end()])
  await admin.end({ timeout: 1 })
  await postgres.admin.unsafe(`drop database ${database} with (force)`)
  await rm(program, { recursive: true })
}

type Origins = { previous: () => string; current: () => string }

/** @throws Error if there is none */
async function answerOf<Body>(asked: Promise<Outcome<Body>>) {
  const outcome = await asked
  if (outcome === 'lost') throw new Error('A request was not answered')
  return outcome
}

/** The previous version may not know tasks that come again, but must do them no harm. */
async function recurAcross(
  client: Client,
  report: Report,
  { previous, current }: Origins,
): Promise<void> {
  const { token } = await newUser()
  async function send(origin: () => string, method: string, path: string, json?: object) {
    const options = { token, ...(json && { json }) }
    const asked = client.ask<TaskBody>(origin(), method, `/api/tasks${path}`, options)
    return (await answerOf(asked)).body
  }
  async function expectNext(path: string, due: string): Promise<void> {
    const { next_task_id } = await send(current, 'PATCH', `${path}/complete`, { completed: true })
    const next = await send(current, 'GET', `/${next_task_id}`)
    if (next.due_date !== due || next.title !== 'By the other version')
      report.violation(`after ${path} comes ${JSON.stringify(next)}`)
  }

  const json = { title: 'Again', due_date: '2031-01-31', recurrence: 'monthly' }
  const path = `/${(await send(current, 'POST', '', json)).id}`
  await send(previous, 'PUT', path, { title: 'By the other version', tags: ['kept'] })
  await send(previous, 'DELETE', path)
  await send(previous, 'POST', `${path}/restore`)
  await send(previous, 'PATCH', `${path}/complete`)
  await send(previous, 'PATCH', `${path}/complete`)
  await expectNext(path, '2031-02-28')
  // It takes back without taking the next task away.
  await send(previous, 'PATCH', `${path}/complete`)
  await send(current, 'PATCH', `${path}/complete`, { completed: true })
  // A date that it clears takes the rule along.
  const other = `/${(await send(current, 'POST', '', json)).id}`
  await send(previous, 'PUT', other, { due_date: null })
  const done = await send(current, 'PATCH', `${other}/complete`, { completed: true })
  if (done.recurrence !== null || done.next_task_id !== null)
    report.violation(`without a date ${other} comes again: ${JSON.stringify(done)}`)
  report.count('series across versions', 2)
}

/** A page that the previous version gave is the current one's only if tasks have the same fields in both. */
async function keepAcross(
  client: Client,
  report: Report,
  { previous, current }: Origins,
): Promise<void> {
  const { token } = await newUser()
  await client.ask(current(), 'POST', '/api/tasks', { token, json: { title: 'Kept' } })
  async function list(origin: () => string, held = '"none"') {
    const options = { token, headers: { 'if-none-match': held } }
    return answerOf(client.ask<TaskBody[]>(origin(), 'GET', '/api/tasks', options, [304]))
  }
  const before = await list(previous)
  const [fields, fieldsNow] = [before, await list(current)].map(({ body }) => Object.keys(body[0]!))
  const { status } = await list(current, before.headers.get('etag')!)
  if (status !== (String(fields) === String(fieldsNow) ? 304 : 200))
    report.violation(`a list of the previous version is answered with ${status} by this one`)
}

/** The files of another version in a directory, with what it depends on; nothing without history. */
async function checkOut(version: string): Promise<string | undefined> {
  const isThere = await $`git cat-file -e ${version}^{commit}`.cwd(repository).quiet().nothrow()
  if (isThere.exitCode !== 0) return undefined
  const directory = await temporaryDirectory('previous-version')
  await $`git archive ${version} | tar -x -C ${directory}`.cwd(repository).quiet()
  const lockOf = async (root: string) => Bun.file(join(root, 'bun.lock')).text()
  if ((await lockOf(directory)) === (await lockOf(repository)))
    await symlink(join(repository, 'node_modules'), join(directory, 'node_modules'))
  else await $`${process.execPath} install --frozen-lockfile --production`.cwd(directory).quiet()
  return directory
}
