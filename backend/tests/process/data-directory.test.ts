import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'bun:test'
import { chmod, cp, mkdir, rename, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { makeDirectory, run, startProcess } from '../support/process.ts'

let good: Awaited<ReturnType<typeof makeDirectory>>
beforeAll(async () => {
  good = await makeDirectory()
  await (await startProcess(good.path)).end()
})
afterAll(async () => good.remove())

let directory: Awaited<ReturnType<typeof makeDirectory>>
let data: string
beforeEach(async () => {
  directory = await makeDirectory()
  data = join(directory.path, '.data')
  await cp(join(good.path, '.data'), data, { recursive: true })
})
afterEach(async () => directory.remove())

// Root may use everything; anybody else may not use what is root's.
const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
const asSomebody = process.getuid?.() === 0 ? nobody : []

const settings = { PORT: '0', HOST: '127.0.0.1' }

/** Tries to start a server that cannot start, and gives the one line that it prints. */
async function refusal(asUser: string[] = [], more: Record<string, string> = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await run(
    'backend/main.ts',
    directory.path,
    { ...settings, ...more },
    [],
    asUser,
  )
  expect(stdout).toBe('')
  expect(stderr).toEndWith('\n')
  expect(stderr.trimEnd()).not.toContain('\n')
  expect(exitCode).toBe(1)
  return stderr.trimEnd()
}

const orAnother = 'Fix that, or set DATABASE_URL to a PostgreSQL of your own.'

test('a .data that is a file gets one kind line, of the server and of the token', async () => {
  await rm(data, { recursive: true })
  await Bun.write(data, 'a file')
  const line = `${data} cannot be used: it is a file where a directory should be. ${orAnother}`
  expect(await refusal()).toBe(line)
  const { exitCode, stderr } = await run('backend/programs/executable.ts', directory.path, {}, [
    'token',
  ])
  expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: `${line}\n` })
})

test('a part of .data that this user may not use gets one kind line', async () => {
  await chmod(directory.path, 0o755)
  await chmod(data, 0o755)
  for (const part of ['secret', 'postgres']) {
    const path = join(data, part)
    await chmod(path, 0)
    expect(await refusal(asSomebody)).toBe(
      `${path} cannot be used: this user may not read and write it. ${orAnother}`,
    )
    await chmod(path, 0o755)
  }
  await rm(data, { recursive: true })
  await chmod(directory.path, 0o555)
  expect(await refusal(asSomebody)).toBe(
    `${data} cannot be used: this user may not read and write it. ${orAnother}`,
  )
  await chmod(directory.path, 0o755)
})

test('a lock that this user may not make gets one kind line, where a secret is set, too', async () => {
  const lock = join(data, 'lock')
  const secret = { BETTER_AUTH_SECRET: 'a secret that is long enough for this' }
  await rm(data, { recursive: true })
  await mkdir(data)
  await chmod(directory.path, 0o755)
  await chmod(data, 0o555)
  expect(await refusal(asSomebody, secret)).toBe(
    `${lock} cannot be used: this user may not read and write it, or it is no file. ${orAnother}`,
  )
  await chmod(data, 0o755)
  await mkdir(lock)
  expect(await refusal([], secret)).toBe(
    `${lock} cannot be used: this user may not read and write it, or it is no file. ${orAnother}`,
  )
})

test.each([
  ['lacks its control file', async (files: string) => rm(join(files, 'global/pg_control'))],
  [
    'has a short control file',
    async (files: string) => truncate(join(files, 'global/pg_control'), 100),
  ],
  ['lacks its log', async (files: string) => rm(join(files, 'pg_wal'), { recursive: true })],
  ['lacks its tables', async (files: string) => rm(join(files, 'base'), { recursive: true })],
  ['has an empty PG_VERSION', async (files: string) => truncate(join(files, 'PG_VERSION'))],
  ['lacks PG_VERSION', async (files: string) => rm(join(files, 'PG_VERSION'))],
])('a database that %s gets one kind line, and is left as it is', async (_, damage) => {
  const files = join(data, 'postgres')
  await damage(files)
  const line = await refusal()
  expect(line).toStartWith(`The embedded database in ${files} does not start (`)
  expect(line).toEndWith(
    `: its files are damaged, or their disk is full. Put a copy of them in their place, or begin without them: mv ${files} ${files}-damaged`,
  )
  await rename(files, `${files}-damaged`) // as the line says
  await (await startProcess(directory.path)).end()
})

test('a database of another PostgreSQL version is reported with its file, both versions and what to do', async () => {
  const files = join(data, 'postgres')
  await Bun.write(join(files, 'PG_VERSION'), '17\n')
  expect(await refusal()).toBe(
    `${files}/PG_VERSION says PostgreSQL 17, and the one in this program is 18, which cannot read those files. Start the version of this program that wrote them to get at the tasks, or begin without them: mv ${files} ${files}-17`,
  )
})

test('a file where the database should be, and a broken lock, are named', async () => {
  const files = join(data, 'postgres')
  await rm(files, { recursive: true })
  await Bun.write(files, 'a file')
  expect(await refusal()).toBe(
    `${files} cannot be used: it is a file where a directory should be. ${orAnother}`,
  )
  await Bun.write(join(data, 'lock'), 'not a lock, and longer than the header of one would be')
  expect(await refusal()).toBe(`${data}/lock is damaged. It holds nothing but a lock: delete it.`)
})

test('a first start that was interrupted starts again from the beginning', async () => {
  const files = join(data, 'postgres')
  await rm(files, { recursive: true })
  await mkdir(join(files, 'pg_wal'), { recursive: true })
  await Bun.write(join(data, 'postgres.unpacking'), '')
  await (await startProcess(directory.path)).end()
  expect((await stat(join(files, 'PG_VERSION'))).isFile()).toBe(true)
  expect(await Bun.file(join(data, 'postgres.unpacking')).exists()).toBe(false)
})
