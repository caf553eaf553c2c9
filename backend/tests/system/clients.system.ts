import { afterAll, expect, test } from 'bun:test'
import { join, resolve } from 'node:path'
import { newUser, startApi } from '../support/api.ts'
import { makeDirectory, runCommand } from '../support/process.ts'

/** Generators of clients, as their users install them; none of them knows TypeScript 7 yet. */
const packages = [
  'openapi-typescript@7.13.0',
  'openapi-fetch@0.17.0',
  '@hey-api/openapi-ts@0.99.0',
  'orval@8.33.0',
  'typescript@5.9.3',
]

const api = startApi()
const directory = await makeDirectory()
afterAll(async () => {
  await api.stop()
  await directory.remove()
})

const quiet = { ORVAL_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' }
const runIn = async (...command: string[]) => runCommand(command, directory.path, quiet)
const bin = (name: string) => join('node_modules', '.bin', name)

/** What each program does: it creates a task, lists it, and changes it at a version that it does not have. */
const programs = {
  'openapi-typescript': `
import createClient from 'openapi-fetch'
import type { components, paths } from './openapi-typescript.ts'

const { ORIGIN: baseUrl = '', TOKEN: token = '' } = process.env
const api = createClient<paths>({ baseUrl, headers: { authorization: \`Bearer \${token}\` } })
const created = await api.POST('/api/tasks', { body: { title: 'Typed' } })
if (created.error) throw new Error(created.error.detail)
const task: components['schemas']['Task'] = created.data
const listed = await api.GET('/api/tasks', { params: { query: { status: 'pending', overdue: false } } })
const refused = await api.PUT('/api/tasks/{id}', {
  params: { path: { id: task.id }, header: { 'if-match': '"9"' } },
  body: { completed: true },
})
if (refused.error?.code !== 'version_conflict') throw new Error('It was not refused')
const { code, current } = refused.error
console.log(JSON.stringify([listed.data?.[0]?.title, refused.response.status, code, current.version]))
`,
  'hey-api': `
import { client } from './hey-api/client.gen.ts'
import { createTask, listTasks, updateTask, type Task } from './hey-api/index.ts'

const { ORIGIN: baseUrl = '', TOKEN: token = '' } = process.env
client.setConfig({ baseUrl, auth: token })
const created = await createTask({ body: { title: 'Typed' } })
if (created.error) throw new Error(created.error.detail)
const task: Task = created.data
const listed = await listTasks({ query: { status: 'pending' } })
const refused = await updateTask({
  path: { id: task.id },
  headers: { 'if-match': '"9"' },
  body: { completed: true },
})
if (refused.error?.code !== 'version_conflict') throw new Error('It was not refused')
const { code, current } = refused.error
console.log(JSON.stringify([listed.data?.[0]?.title, refused.response?.status, code, current.version]))
`,
  orval: `
import { createTask, listTasks, updateTask, type Task } from './orval.ts'

const { ORIGIN: origin = '', TOKEN: token = '' } = process.env
const send = globalThis.fetch
// Its paths begin with the server of the document, which is where that was read from.
globalThis.fetch = (async (path: string, options: RequestInit) =>
  send(origin + path, options)) as typeof fetch
const options = { headers: { authorization: \`Bearer \${token}\` } }
const created = await createTask({ title: 'Typed' }, options)
if (created.status !== 201) throw new Error(created.data.detail)
const task: Task = created.data
const listed = await listTasks({ status: 'pending' }, options)
if (listed.status !== 200) throw new Error('It was not listed')
const headers = { ...options.headers, 'if-match': '"9"' }
const refused = await updateTask(task.id, { completed: true }, { headers })
if (refused.status !== 412) throw new Error('It was not refused')
const { code, current } = refused.data
console.log(JSON.stringify([listed.data[0]?.title, refused.status, code, current.version]))
`,
}

test('three generators make clients that compile under strict, create, list and meet a 412', async () => {
  const write = async (name: string, text: string) => Bun.write(join(directory.path, name), text)
  await write('package.json', JSON.stringify({ private: true, type: 'module' }))
  await write('openapi.json', await (await fetch(`${api.origin}/docs/json`)).text())
  const types = resolve(import.meta.dir, '../../../node_modules/bun-types')
  await runIn(process.execPath, 'add', '--exact', '--silent', ...packages)
  await Promise.all([
    runIn(bin('openapi-typescript'), 'openapi.json', '-o', 'openapi-typescript.ts'),
    runIn(bin('openapi-ts'), '-i', 'openapi.json', '-o', 'hey-api', '-c', '@hey-api/client-fetch'),
    runIn(bin('orval'), '--input', 'openapi.json', '--output', 'orval.ts', '--client', 'fetch'),
    ...Object.entries(programs).map(async ([name, text]) => write(`use-${name}.ts`, text)),
  ])
  const files = Object.keys(programs).map((name) => `use-${name}.ts`)
  await write(
    'tsconfig.json',
    JSON.stringify({
      compilerOptions: {
        strict: true,
        noEmit: true,
        target: 'esnext',
        module: 'preserve',
        moduleResolution: 'bundler',
        allowImportingTsExtensions: true,
        skipLibCheck: true,
        types: [types],
      },
      files,
    }),
  )
  await runIn(bin('tsc'))
  const outputs = await Promise.all(
    files.map(async (file) => {
      const { token } = await newUser()
      return runIn('env', `ORIGIN=${api.origin}`, `TOKEN=${token}`, process.execPath, file)
    }),
  )
  for (const output of outputs)
    expect(JSON.parse(output)).toEqual(['Typed', 412, 'version_conflict', 1])
})
