import { afterAll, beforeAll, expect, test } from 'bun:test'
import { spawnSync } from 'node:child_process'
import { mkdir, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { version } from '../../../package.json'
import { makeDirectory, run, spawn, startProcess } from '../support/process.ts'

const repository = resolve(import.meta.dir, '../../..')

let directory: Awaited<ReturnType<typeof makeDirectory>>
beforeAll(async () => {
  directory = await makeDirectory()
  // A server makes the database that the commands work on.
  await (await startProcess(directory.path)).end()
}, 60_000)
afterAll(async () => directory.remove())

const todoApi = async (...args: string[]) =>
  run('backend/programs/executable.ts', directory.path, {}, args)

const onTheEmbedded = () => `Database: the embedded one in ${join(directory.path, '.data')}\n`

test.each(['--help', '-h', 'help'])('%s lists the commands', async (word) => {
  const { stdout, stderr, exitCode } = await todoApi(word)
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
  for (const command of ['health', 'migrate', 'token [user]', 'restored', 'forget <user>'])
    expect(stdout).toContain(`\n  todo-api ${command} `)
  expect(stdout).toContain('todo-api reads no .env file')
})

test.each(['--version', '-v'])('%s prints the version and nothing else', async (word) => {
  expect(await todoApi(word)).toEqual({ stdout: `${version}\n`, stderr: '', exitCode: 0 })
})

test.each([
  ['serve', 'There is no command serve.'],
  ['toString', 'There is no command toString.'],
  ['--port=80', 'There is no option --port=80.'],
  ['restored --dry-run', 'There is no option --dry-run. The command is: todo-api restored'],
  ['migrate --check', 'There is no option --check. The command is: todo-api migrate'],
  ['token bob --ttl 5', 'There is no option --ttl. The command is: todo-api token [user]'],
  ['token --ttl', 'There is no option --ttl. The command is: todo-api token [user]'],
  ['forget -abc', 'There is no option -abc. The command is: todo-api forget <user>'],
  ['--dry-run restored', 'There is no option --dry-run. The command is: todo-api restored'],
  ['restored --help=no', 'There is no option --help=no. The command is: todo-api restored'],
  ['-vx', 'There is no option -vx.'],
  ['forget', 'The command is: todo-api forget <user>'],
  ['migrate now', 'The command is: todo-api migrate'],
  ['token alice bob', 'The command is: todo-api token [user]'],
])('%s is refused, and does not serve', async (words, problem) => {
  const { stdout, stderr, exitCode } = await todoApi(...words.split(' '))
  expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 2 })
  expect(stderr).toStartWith(`${problem}\n\nTodo API ${version}\n`)
})

test('token prints none that no server would take', async () => {
  expect(await todoApi('token', 'x'.repeat(256))).toEqual({
    stdout: '',
    stderr: 'The id of a user is text of 1 to 255 characters\n',
    exitCode: 1,
  })
})

test.each([
  ['true', 0, ''],
  ['cat >/dev/full', 0, 'cat: write error: No space left on device\n'],
])('what it prints may find no reader: | %s', async (reader, exitCode, stderr) => {
  const program = join(repository, 'backend/programs/executable.ts')
  const shell = spawnSync('bash', [
    '-c',
    `"${process.execPath}" "${program}" --help | ${reader}; exit \${PIPESTATUS[0]}`,
  ])
  expect([shell.status, shell.stderr.toString()]).toEqual([exitCode, stderr])
})

test('what it prints may find no room', async () => {
  const program = join(repository, 'backend/programs/executable.ts')
  const shell = spawnSync('sh', ['-c', `"${process.execPath}" "${program}" --version >/dev/full`])
  expect([shell.status, shell.stderr.toString()]).toEqual([1, expect.stringContaining('ENOSPC')])
})

test.each(['migrate', 'restored', 'forget dave'])(
  '%s refuses to work on a database that it would have to create',
  async (words) => {
    const elsewhere = await makeDirectory()
    await mkdir(join(elsewhere.path, '.data', 'postgres'), { recursive: true })
    const asked = await run('backend/programs/executable.ts', elsewhere.path, {}, words.split(' '))
    expect(asked).toEqual({
      stdout: '',
      stderr: `There is no database in ${elsewhere.path}/.data. Set DATABASE_URL to the one that the servers use, or start this in their directory.\n`,
      exitCode: 1,
    })
    expect(await readdir(join(elsewhere.path, '.data', 'postgres'))).toEqual([])
    await elsewhere.remove()
  },
)

test('a command says which PostgreSQL it works on, and not the password', async () => {
  const settings = { DATABASE_URL: 'postgres://todo:hunter2@127.0.0.1:1/tasks?sslmode=verify-ca' }
  const child = spawn('backend/programs/executable.ts', directory.path, settings, ['migrate'])
  let told = ''
  for await (const piece of child.stderr) {
    told += Buffer.from(piece).toString()
    if (told.includes('trying again')) break
  }
  child.kill()
  await child.exited
  expect(told).toStartWith('Database: tasks at 127.0.0.1:1\n')
  expect(told).not.toContain('hunter2')
})

test('migrate brings an embedded database up to date, once and again', async () => {
  for (const _ of [1, 2])
    expect(await todoApi('migrate')).toEqual({
      stdout: expect.stringMatching(/^The tables are up to date: \d{4}_\w+\.\n$/) as string,
      stderr: onTheEmbedded(),
      exitCode: 0,
    })
})

test('forget takes any user, and says if there was nothing', async () => {
  for (const words of [['nobody'], ['--', '-x'], ["o'hara; drop table tasks"]])
    expect(await todoApi('forget', ...words)).toEqual({
      stdout: 'Nothing is kept of this user.\n',
      stderr: onTheEmbedded(),
      exitCode: 0,
    })
})

test('an id that begins with - comes after --, as the help says', async () => {
  const { stdout } = await todoApi('token', '--', '-x')
  const [, payload = ''] = stdout.split('.')
  expect(JSON.parse(Buffer.from(payload, 'base64url').toString())).toMatchObject({ sub: '-x' })
  expect((await todoApi('--help')).stdout).toContain('todo-api forget -- -x')
})

test('under bun run, too, an unknown option is refused, and an id may begin with -', async () => {
  const bunRun = async (...words: string[]) => {
    const child = Bun.spawn([process.execPath, 'run', '--silent', ...words], {
      cwd: repository,
      env: { PATH: process.env['PATH'], BETTER_AUTH_SECRET: '0123456789abcdefghijklmnopqrstuv' },
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [output, problem] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ])
    return { output, problem, exitCode: await child.exited }
  }
  const refused = await bunRun('token', 'bob', '--ttl', '5')
  expect(refused).toMatchObject({ output: '', exitCode: 2 })
  expect(refused.problem).toStartWith('There is no option --ttl.')
  const taken = await bunRun('token', '--', '--', '-x')
  expect(taken).toMatchObject({ problem: '', exitCode: 0 })
})
