/**
 * What this server costs, compared with a bare one, its peers and PostgreSQL by itself:
 *
 *     bun run bench [--quick]
 *
 * The whole run takes about ten minutes and writes the tables and the chart of
 * docs/performance.md. `--quick` goes through all of it in short, says nothing worth quoting, and
 * writes no file.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startContestants } from './contestants.ts'
import { startBenchDatabase } from './database.ts'
import { measureMemory, measurePages, measureProcesses, measureStarts } from './extra.ts'
import { measureLimits } from './limit.ts'
import { checkWork, measureWork } from './measure.ts'
import { createResults, writeReport } from './report.ts'
import { works } from './work.ts'

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } })
const { quick } = options
const connections = 32
// In short, one work that reads and one that writes.
const measured = quick ? works.filter(({ name }) => /^(list of 20|create)$/.test(name)) : works
const rounds = quick ? 1 : 3
const seconds = quick ? 1 : 2
const say = (line: string) => void process.stdout.write(`${line}\n`)

const directory = await mkdtemp(join(tmpdir(), 'bench-'))
const database = await startBenchDatabase()
const place = { database, directory }

say('Starts')
const starts = await measureStarts(place, quick ? 1 : 5)
say('Pages of long lists')
const pages = await measurePages(
  place,
  quick ? [1_000] : [1_000, 10_000, 100_000],
  quick ? 100 : 2_000,
)
say('Several processes')
const load = { connections, seconds: quick ? 1 : 3 }
const processes = await measureProcesses(place, quick ? [1, 2] : [1, 2, 4], load)
say('Memory')
const memory = await measureMemory(place, quick ? [1_000, 2_000] : [100_000, 1_000_000])

const contestants = await startContestants(database, directory)
for (const { name, note } of contestants) say(`Started ${name}. ${note}`)
const results = createResults(contestants)
for (const work of works) {
  for (const contestant of contestants) {
    await checkWork(work, contestant)
    // Before the first round: what runs often enough is compiled by then.
    if (!quick)
      await measureWork(work, contestant, database, { directory, connections, seconds: 2 })
  }
}
for (let round = 1; round <= rounds; round += 1)
  for (const work of measured) {
    say(`Round ${round} of ${rounds}: ${work.name}`)
    for (const contestant of contestants) {
      const how = { directory, connections, seconds }
      results.add(work.name, contestant.name, await measureWork(work, contestant, database, how))
    }
  }
for (const contestant of contestants) await contestant.stop()

say('PostgreSQL by itself')
const limits = await measureLimits(database, directory, seconds)
await database.close()
await rm(directory, { recursive: true, force: true })

const machine = `${cpus().length} cores (${cpus()[0]?.model}), Linux ${release()}, Bun ${Bun.version}`
const report = { results, limits, starts, pages, processes, memory, machine, rounds, seconds }
say(await writeReport({ ...report, keep: !quick }))
process.exit(0)
