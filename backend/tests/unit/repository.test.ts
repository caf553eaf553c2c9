import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { license, version } from '../../../package.json'
import { readConfig } from '../../config.ts'
import { repository } from '../support/server.ts'

const read = async (file: string) => Bun.file(join(repository, file)).text()

test('the changelog, the package and the image are of one version', async () => {
  const [, released] =
    /^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$/m.exec(await read('CHANGELOG.md')) ?? []
  const [, labelled] = /^ARG VERSION=(.*)$/m.exec(await read('Dockerfile')) ?? []
  expect([released, labelled]).toEqual([version, version])
})

test('the license is the one that the package names', async () => {
  expect(await read('LICENSE')).toStartWith(`${license} License\n`)
})

type Compose = { services: Record<string, { environment: Record<string, string> }> }

/** What compose.yaml gives its services if this is set, in the environment or in .env. */
async function composed(given: Record<string, string>) {
  const { services } = Bun.YAML.parse(await read('compose.yaml')) as Compose
  const putIn = (text: string): string =>
    // From the innermost on: a default may have variables in it.
    text.includes('${')
      ? putIn(
          text.replace(
            /\$\{(\w+):-([^{}]*)\}/,
            (_, name: string, usual: string) => given[name] ?? usual,
          ),
        )
      : text
  const { api, database } = services
  const settings = Object.fromEntries(
    Object.entries(api!.environment).map(([name, value]) => [name, putIn(value)]),
  )
  return { settings, database }
}

test('compose.yaml passes every setting on, except those that the image decides', async () => {
  const asked = new Set<string>()
  const recorder = new Proxy<Record<string, string>>(
    { BETTER_AUTH_SECRET: '0123456789abcdefghijklmnopqrstuv' },
    {
      get(known, name) {
        asked.add(String(name))
        return known[String(name)]
      },
    },
  )
  readConfig(recorder)
  const passed = [...asked].filter((name) => !['NODE_ENV', 'HOST', 'PORT'].includes(name))
  expect(passed).toContain('RATE_LIMIT_PER_USER')
  const given = Object.fromEntries(passed.map((name) => [name, `${name} as it is set`]))
  expect((await composed(given)).settings).toEqual(given)
})

test('compose.yaml gives the server settings that it takes', async () => {
  const { settings, database } = await composed({})
  const config = readConfig({
    ...settings,
    NODE_ENV: 'production',
    BETTER_AUTH_SECRET: '0123456789abcdefghijklmnopqrstuv',
  })
  expect(config.database).toMatchObject({
    host: 'database',
    username: database!.environment['POSTGRES_USER']!,
    database: database!.environment['POSTGRES_DB']!,
  })
  expect(() => readConfig({ ...settings, NODE_ENV: 'production' })).toThrow('BETTER_AUTH_SECRET')
})

test('the workflow runs all that must hold', async () => {
  type Workflow = { jobs: Record<string, { steps: { run?: string; uses?: string }[] }> }
  const { jobs } = Bun.YAML.parse(await read('.github/workflows/check.yml')) as Workflow
  const steps = Object.values(jobs).flatMap((job) => job.steps)
  expect(steps.map(({ run }) => run)).toContain('.ci/run')
  for (const { uses } of steps) if (uses) expect(uses).toMatch(/@[\da-f]{40}$/)
})
