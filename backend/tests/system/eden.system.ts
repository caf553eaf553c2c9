import { afterAll, expect, test } from 'bun:test'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { dependencies, devDependencies } from '../../../package.json'
import { newUser, startApi } from '../support/api.ts'
import { makeDirectory, runCommand } from '../support/process.ts'
import { repository } from '../support/server.ts'

const api = startApi()
const directory = await makeDirectory()
afterAll(async () => {
  await api.stop()
  await directory.remove()
})

/** The files that docs/api.md has for Eden, by the names that stand above them. */
async function filesOnThePage(): Promise<Map<string, string>> {
  const page = await Bun.file(join(repository, 'docs/api.md')).text()
  const [, section = ''] = /\n### Eden, in a monorepo\n([\s\S]*?)\n## /.exec(page) ?? []
  const blocks = section.matchAll(/`([\w./-]+)`:\n\n```\w+\n([\s\S]*?)```/g)
  return new Map([...blocks].map(([, name = '', text = '']) => [name, text]))
}

const runIn = async (folder: string, ...command: string[]) =>
  runCommand(command, join(directory.path, folder))

test('the Eden client in docs/api.md compiles and runs with the files on that page and nothing else', async () => {
  for (const part of ['backend', 'package.json', 'tsconfig.json'])
    await cp(join(repository, part), join(directory.path, 'todo-api', part), {
      recursive: true,
      filter: (path) => !path.endsWith('node_modules'),
    })
  const files = await filesOnThePage()
  expect([...files.keys()]).toEqual([
    'package.json',
    'web/package.json',
    'web/tsconfig.json',
    'web/client.ts',
  ])
  expect(JSON.parse(files.get('web/package.json')!)).toMatchObject({
    dependencies: {
      elysia: dependencies.elysia,
      '@elysiajs/eden': devDependencies['@elysiajs/eden'],
    },
    devDependencies: { typescript: devDependencies.typescript },
  })
  const { token } = await newUser()
  await api.request('POST', '/api/tasks', { token, json: { title: 'Typed' } })
  const client = files
    .get('web/client.ts')!
    .replace('http://localhost:8000', api.origin)
    .replace("'…'", `'${token}'`)
  expect(client).toContain(token)
  for (const [name, text] of files)
    await Bun.write(join(directory.path, name), name === 'web/client.ts' ? client : text)

  await runIn('.', process.execPath, 'install', '--silent')
  expect(await runIn('web', process.execPath, 'x', 'tsc')).toBe('')
  expect(await runIn('web', process.execPath, 'client.ts')).toMatch(/^\d+ Typed\n$/)
})
