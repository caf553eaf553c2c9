import { expect, test } from 'bun:test'
import { dirname, join, relative } from 'node:path'

/** From the ground up. A room knows those below it; those of one floor do not know one another. */
const floors = [
  ['db'],
  ['http'],
  ['auth', 'docs', 'recurrence'],
  ['tasks'],
  ['reminders'],
  ['sync', 'compat', 'keys', 'mcp'],
  ['.'], // main.ts and its like: they put the house together
  ['programs'],
]

/** They look at the house from outside. */
const outside = ['tests', 'battery', 'bench']

const backend = join(import.meta.dir, '../..')
const importStatement = /^(?:import|export)\b[^'"]*?from '(\.[^']+)'|\bimport\('(\.[^']+)'\)/gm

function roomOf(file: string): string {
  const [room = '.', ...rest] = file.split('/')
  return rest.length === 0 ? '.' : room
}

function floorOf(file: string): number {
  return floors.findIndex((rooms) => rooms.includes(roomOf(file)))
}

async function importsOf(file: string): Promise<string[]> {
  const source = await Bun.file(join(backend, file)).text()
  return [...source.matchAll(importStatement)]
    .map(([, plain, dynamic]) => relative(backend, join(backend, dirname(file), plain ?? dynamic!)))
    .filter((path) => path.endsWith('.ts') && !path.startsWith('..'))
}

const everyFile = [...new Bun.Glob('**/*.ts').scanSync(backend)]
  .filter((file) => !file.includes('node_modules/') && !file.endsWith('.d.ts'))
  .toSorted()
const files = everyFile.filter((file) => !outside.includes(roomOf(file)))
const imports = new Map(
  await Promise.all(everyFile.map(async (file) => [file, await importsOf(file)] as const)),
)

test('every room has its floor', () => {
  expect([...new Set(files.map(roomOf))].toSorted()).toEqual(floors.flat().toSorted())
})

test('no room imports from a room above it or next to it', () => {
  const upward = files.flatMap((file) =>
    imports
      .get(file)!
      .filter((imported) => roomOf(imported) !== roomOf(file) && floorOf(imported) >= floorOf(file))
      .map((imported) => `${file} → ${imported}`),
  )
  expect(upward).toEqual([])
})

test('no file imports itself, by whatever detour', () => {
  const circles: string[] = []
  const done = new Set<string>()
  function visit(file: string, path: string[]): void {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '))
    if (done.has(file) || path.includes(file)) return
    for (const imported of imports.get(file) ?? []) visit(imported, [...path, file])
    done.add(file)
  }
  for (const file of everyFile) visit(file, [])
  expect(circles).toEqual([])
})
