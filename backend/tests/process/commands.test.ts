import { afterAll, beforeAll, expect, test } from 'bun:test'
import { version } from '../../../package.json'
import { makeDirectory, run } from '../support/process.ts'

let directory: Awaited<ReturnType<typeof makeDirectory>>
beforeAll(async () => {
  directory = await makeDirectory()
})
afterAll(async () => directory.remove())

const todoApi = async (...args: string[]) =>
  run('backend/programs/executable.ts', directory.path, {}, args)

test.each(['--help', '-h', 'help'])('%s lists the commands', async (word) => {
  const { stdout, stderr, exitCode } = await todoApi(word)
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
  for (const command of ['health', 'migrate', 'token [user]', 'restored', 'forget <user>'])
    expect(stdout).toContain(`\n  todo-api ${command} `)
})

test.each(['--version', '-v'])('%s prints the version and nothing else', async (word) => {
  expect(await todoApi(word)).toEqual({ stdout: `${version}\n`, stderr: '', exitCode: 0 })
})

test.each([
  ['serve', 'There is no command serve.'],
  ['toString', 'There is no command toString.'],
  ['--port=80', 'There is no command --port=80.'],
  ['forget', 'The command is: todo-api forget <user>'],
  ['migrate now', 'The command is: todo-api migrate'],
  ['token alice bob', 'The command is: todo-api token [user]'],
])('%s is refused, and does not serve', async (words, problem) => {
  const { stdout, stderr, exitCode } = await todoApi(...words.split(' '))
  expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 2 })
  expect(stderr).toStartWith(`${problem}\n\nTodo API ${version}\n`)
})

test('migrate makes the tables, once and again', async () => {
  for (const _ of [1, 2])
    expect(await todoApi('migrate')).toEqual({
      stdout: expect.stringMatching(/^The tables are up to date: \d{4}_\w+\.\n$/) as string,
      stderr: '',
      exitCode: 0,
    })
})

test('forget takes any user, and says if there was nothing', async () => {
  for (const words of [['nobody'], ['--', '-x'], ["o'hara; drop table tasks"]])
    expect(await todoApi('forget', ...words)).toEqual({
      stdout: 'Nothing is kept of this user.\n',
      stderr: '',
      exitCode: 0,
    })
})
