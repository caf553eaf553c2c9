/**
 * The battery: tries to break the API on a real PostgreSQL, and says what happened.
 *
 *     bun run battery [--short] [--seed N] [--only part,part]
 */
import { parseArgs } from 'node:util'
import { startPgBouncer } from '../tests/support/pgbouncer.ts'
import { startPostgres } from '../tests/support/postgres.ts'
import type { Battery } from './battery.ts'
import { fairness } from './fairness.ts'
import { faultsUnderLoad } from './faults.ts'
import { histories } from './histories.ts'
import { versionsSideBySide } from './versions.ts'
import { quickStreams } from './quick-streams.ts'
import { createReport } from './report.ts'

const parts: Record<string, (battery: Battery) => Promise<void>> = {
  streams: quickStreams,
  fairness,
  faults: faultsUnderLoad,
  history: histories,
  versions: versionsSideBySide,
}

const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    seed: { type: 'string' },
    only: { type: 'string' },
  },
})
const seed = Number(values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0])
const chosen = values.only?.split(',') ?? Object.keys(parts)
const print = (line: string) => void process.stdout.write(`${line}\n`)

print(`seed ${seed}: repeat with --seed ${seed}`)
const report = createReport(print)
const postgres = await startPostgres()
const pgbouncer = await startPgBouncer(postgres)
for (const name of chosen) {
  print(`— ${name}`)
  await parts[name]!({ postgres, pgbouncer, seed, short: values.short, report })
}
await pgbouncer.close()
await postgres.close()

report.summarize()
process.exit(report.violations.length === 0 ? 0 : 1)
