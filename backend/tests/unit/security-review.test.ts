import { expect, test } from 'bun:test'
import { join } from 'node:path'

const repository = join(import.meta.dir, '../../..')
const review = await Bun.file(join(repository, 'docs/security.md')).text()

const lines = review
  .split('\n')
  .filter((line) => line.startsWith('|') && !/^\|( item | -)/.test(line))
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .map(([, item = '', , tests = '']) => ({ item, tests: tests.split('<br>') }))

test('the review has a line for every item', () => {
  const items = lines.map(({ item }) => item)
  const rfc8725 = Array.from({ length: 12 }, (_, index) => `3.${index + 1} `)
  const owasp = Array.from({ length: 10 }, (_, index) => `API${index + 1} `)
  const rfc6750 = ['2.1 ', '2.2 ', '2.3 ', '3 ', '3.1 ', '5.2 ', '5.3 ']
  for (const start of [...owasp, ...rfc8725, ...rfc6750])
    expect(items.some((item) => item.startsWith(start))).toBe(true)
})

test.each(lines)('$item: the tests that show it exist', async ({ tests }) => {
  for (const reference of tests) {
    const [, file = '', title = ''] = /^`([a-z]+\/[\w-]+\.(?:test|system)\.ts)`: (.+)$/.exec(
      reference,
    ) ?? [undefined, reference]
    const source = Bun.file(join(repository, 'backend/tests', file))
    expect({ file, exists: await source.exists() }).toEqual({ file, exists: true })
    const isThere = (await source.text()).includes(`'${title}'`)
    expect({ title, isThere }).toEqual({ title, isThere: true })
  }
})
