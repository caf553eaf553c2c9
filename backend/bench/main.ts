/**
 * What this server costs, compared with a bare one, its peers and PostgreSQL by itself:
 *
 *     bun run bench [--quick]
 *
 * The whole run takes about twenty minutes and writes the tables and the chart of
 * docs/performance.md. `--quick` goes through all of it in short, says nothing worth quoting, and
 * writes no file.
 */
import { cpus, release } from 'node:os'
import { parseArgs } from 'node:util'
import { ours, startContestant } from './contestants.ts'
import { startBenchDatabase } from './database.ts'
import {
  measureCrowds,
  measureMemory,
  measurePages,
  measureProcesses,
  measureStarts,
} from './extra.ts'
import { measureLimits } from './limit.ts'
import { checkWork, measureWork } from './measure.ts'
import { peers } from './peers.ts'
import { writeReport } from './report.ts'
import { createResults } from './results.ts'
import { works } from './work.ts'

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } })
const { quick } = options
const connections = 32
// In short, one work that reads and one that writes.
const measured = quick ? works.filter(({ name }) => /^(list of 20|create)$/.test(name)) : works
const rounds = quick ? 1 : 3
const seconds = quick ? 1 : 2
const say = (line: string) => void process.stdout.write(`${line}\n`)

const database = await startBenchDatabase()

say('Starts')
const starts = await measureStarts(database, quick ? 1 : 5)
say('Pages of long lists')
const sizes = quick ? [1_000] : [1_000, 10_000, 100_000]
const pages = await measurePages(database, sizes, quick ? 100 : 2_000)
say('Several processes')
const load = { connections, seconds: quick ? 1 : 3 }
const processes = await measureProcesses(database, quick ? [1, 2] : [1, 2, 4], load)
say('Memory')
const memory = await measureMemory(database, quick ? [1_000, 2_000] : [100_000, 1_000_000])

const contestants = []
for (const peer of [ours, ...peers]) {
  contestants.push(await startContestant(peer, database.addresses))
  say(`Started ${peer.name}. ${peer.note}`)
}
const results = createResults(contestants.map(({ name }) => name))
for (const work of works)
  for (const contestant of contestants) {
    await checkWork(work, contestant)
    // Before the first round: what runs often enough is compiled by then.
    if (!quick) await measureWork(work, contestant, database, { connections, seconds: 2 })
  }
for (let round = 1; round <= rounds; round += 1)
  for (const waits of [false, true]) {
    await database.waitForDisk(waits)
    for (const work of measured.filter(({ writes }) => writes || !waits)) {
      const name = waits ? `${work.name}, fsync on` : work.name
      say(`Round ${round} of ${rounds}: ${name}`)
      for (const contestant of contestants) {
        const sample = await measureWork(work, contestant, database, { connections, seconds })
        results.add(name, contestant.name, sample)
      }
    }
  }
await database.waitForDisk(false)
for (const contestant of contestants) await contestant.stop()

say('PostgreSQL by itself')
const limits = await measureLimits(database, seconds)
say('Many users')
const crowds = await measureCrowds(database, quick ? [0, 1] : [0, 500], { connections, seconds })
await database.close()

const machine = `${cpus().length} cores (${cpus()[0]?.model}), Linux ${release()}, Bun ${Bun.version}`
const report = {
  results,
  limits,
  starts,
  pages,
  processes,
  memory,
  crowds,
  machine,
  rounds,
  seconds,
}
say(await writeReport(report, !quick))
process.exit(0)
