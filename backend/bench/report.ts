import { join } from 'node:path'
import type { Contestant } from './contestants.ts'
import type { Limit } from './limit.ts'
import { median, type Sample } from './measure.ts'
import { works } from './work.ts'

const key = (work: string, name: string) => `${work}\n${name}`

export type Results = ReturnType<typeof createResults>

/** The samples of all rounds, by work and server. */
export function createResults(contestants: Contestant[]) {
  const samples = new Map<string, Sample[]>()
  const [ours, floor, ...peers] = contestants.map(({ name }) => name)

  const of = (work: string, name: string) => samples.get(key(work, name)) ?? []
  const typical = (work: string, name: string, figure: keyof Sample) =>
    median(of(work, name).map((sample) => sample[figure]))

  return {
    names: contestants.map(({ name }) => name),
    /** The works that were measured. */
    works: () => works.map(({ name }) => name).filter((work) => of(work, ours!).length > 0),
    add(work: string, name: string, sample: Sample): void {
      samples.set(key(work, name), [...of(work, name), sample])
    },
    typical,
    /** Server CPU time of a request, ours ÷ the floor's: the median of the rounds' ratios. */
    cpuRatio: (work: string) =>
      median(
        of(work, ours!).map(
          ({ serverCpu }, round) => serverCpu / of(work, floor!)[round]!.serverCpu,
        ),
      ),
    /** Requests per second, ours ÷ those of the peer that has the most in that round. */
    throughputRatio: (work: string, among: (name: string) => boolean = () => true) =>
      median(
        of(work, ours!).map(
          ({ requestsPerSecond }, round) =>
            requestsPerSecond /
            Math.max(
              ...peers.filter(among).map((name) => of(work, name)[round]!.requestsPerSecond),
            ),
        ),
      ),
  }
}

type Report = {
  results: Results
  limits: Record<string, Limit>
  starts: Record<string, number>
  pages: { tasks: number; serverCpu: number; postgresCpu: number }[]
  processes: { processes: number; work: string; requestsPerSecond: number }[]
  memory: { requests: number; megabytes: number }[]
  machine: string
  rounds: number
  seconds: number
  /** Whether docs/performance.md and its chart are to say so. */
  keep: boolean
}

const document = join(import.meta.dir, '../../docs/performance.md')
const chart = join(import.meta.dir, '../../docs/performance.svg')

/** Writes the report into the documentation, if it is to be kept, and gives its text. */
export async function writeReport({ keep, ...report }: Report): Promise<string> {
  const text = textOf(report)
  if (!keep) return text
  await Bun.write(chart, chartOf(report.results))
  const page = await Bun.file(document).text()
  const [before] = page.split('<!-- results -->')
  await Bun.write(document, `${before}<!-- results -->\n\n${text}\n`)
  const prettier = [process.execPath, 'x', 'prettier', '--write', document]
  await Bun.spawn(prettier, { stdout: 'ignore' }).exited
  return text
}

const whole = (value: number) => Math.round(value).toLocaleString('en')
const tenths = (value: number) => value.toFixed(1)
const mark = (isMet: boolean) => (isMet ? 'yes' : 'no')
const hundredths = (value: number) => value.toFixed(2)

function table(heads: string[], rows: string[][]): string {
  return [heads, heads.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
}

/** The goals: the most server CPU ÷ the floor's, and the least throughput ÷ the best peer's. */
const goals: [work: string, cpu: number, throughput: number][] = [
  ['list of 20', 0.6, 1.3],
  ['list, unchanged', 0.5, 2],
  ['one task', 1.15, 1.2],
  ['create', 1.25, 1.1],
  ['update', 1.25, 1.1],
  ['toggle', 1.25, 1.1],
]

function textOf(report: Omit<Report, 'keep'>): string {
  const { results, limits, starts, pages, processes, memory, machine, rounds, seconds } = report
  const { names, typical } = results
  const measured = results.works()
  const fastApi = results.throughputRatio('list of 20', (name) => name.startsWith('FastAPI'))
  return `## The figures

${machine}. Medians of ${rounds} rounds of ${seconds} s with 32 connections, on ${new Date().toISOString().slice(0, 10)}.

### Ratios

${table(
  ['work', 'server CPU ÷ floor', 'goal', 'met', 'throughput ÷ best peer', 'goal', 'met'],
  goals
    .filter(([work]) => measured.includes(work))
    .map(([work, cpu, throughput]) => {
      const [ofCpu, ofThroughput] = [results.cpuRatio(work), results.throughputRatio(work)]
      return [
        work,
        hundredths(ofCpu),
        `≤ ${hundredths(cpu)}`,
        mark(ofCpu <= cpu),
        hundredths(ofThroughput),
        `≥ ${hundredths(throughput)}`,
        mark(ofThroughput >= throughput),
      ]
    }),
)}

A list of 20, throughput ÷ FastAPI's: ${tenths(fastApi)} (goal: ≥ 25).

### Every work

${measured
  .map(
    (work) =>
      `**${work}**\n\n${table(
        ['server', 'requests/s', 'p50 ms', 'p99 ms', 'server CPU µs', 'PostgreSQL CPU µs'],
        [
          ...names.map((name) => [
            name,
            whole(typical(work, name, 'requestsPerSecond')),
            hundredths(typical(work, name, 'p50')),
            tenths(typical(work, name, 'p99')),
            tenths(typical(work, name, 'serverCpu')),
            tenths(typical(work, name, 'postgresCpu')),
          ]),
          ...limitRows(work, limits),
        ],
      )}`,
  )
  .join('\n\n')}

### Starting

From the start of the process to its first answer, in milliseconds.

${table(
  ['start', 'ms'],
  Object.entries(starts).map(([how, milliseconds]) => [how, whole(milliseconds)]),
)}

### Long lists

CPU time for a page of 50 tasks that is read for the first time, in microseconds.

${table(
  ['tasks in the list', 'server', 'PostgreSQL'],
  pages.map((page) => [whole(page.tasks), tenths(page.serverCpu), tenths(page.postgresCpu)]),
)}

### Several processes

Requests per second of all together, 32 connections in all, on one machine with the load and PostgreSQL.

${table(
  ['work', ...new Set(processes.map(({ processes: count }) => `${count} processes`))],
  [...new Set(processes.map(({ work }) => work))].map((work) => [
    work,
    ...processes.filter((each) => each.work === work).map((each) => whole(each.requestsPerSecond)),
  ]),
)}

### Memory

After requests of all kinds, resident.

${table(
  ['requests', 'MB'],
  memory.map(({ requests, megabytes }) => [whole(requests), whole(megabytes)]),
)}`
}

function limitRows(work: string, limits: Record<string, Limit>): string[][] {
  const names = work === 'list of 20' ? [work, 'list, read anew'] : [work]
  return names.flatMap((name) => {
    const limit = limits[name]
    if (limit === undefined) return []
    const { transactionsPerSecond, postgresCpu } = limit
    const label = `Limit: pgbench${name === work ? '' : ', the list read anew each time'}`
    return [[label, whole(transactionsPerSecond), '', '', '', tenths(postgresCpu)]]
  })
}

const barHeight = 14
const labelWidth = 150
const barsWidth = 560
const groupGap = 34

/** A bar of CPU time per server and work: the server's part, then PostgreSQL's. FastAPI is off it. */
function chartOf({ names, typical }: Results): string {
  const shown = names.filter((name) => !name.startsWith('FastAPI'))
  const cpu = (work: string, name: string) => ({
    server: typical(work, name, 'serverCpu'),
    postgres: typical(work, name, 'postgresCpu'),
  })
  const widest = Math.max(
    ...works.flatMap(({ name: work }) =>
      shown.map((name) => cpu(work, name).server + cpu(work, name).postgres),
    ),
  )
  const scale = (microseconds: number) => (microseconds / widest) * barsWidth
  const groupHeight = shown.length * (barHeight + 3) + groupGap
  const groups = works.map(({ name: work }, group) => {
    const top = 56 + group * groupHeight
    const bars = shown.map((name, index) => {
      const { server, postgres } = cpu(work, name)
      const y = top + 8 + index * (barHeight + 3)
      const text = `y="${y + barHeight - 3}"`
      return `<text x="${labelWidth - 6}" ${text} text-anchor="end">${nameOnly(name)}</text>
<rect x="${labelWidth}" y="${y}" width="${tenths(scale(server))}" height="${barHeight}" fill="${index === 0 ? '#0b7285' : '#868e96'}"/>
<rect x="${tenths(labelWidth + scale(server))}" y="${y}" width="${tenths(scale(postgres))}" height="${barHeight}" fill="${index === 0 ? '#99e9f2' : '#dee2e6'}"/>
<text x="${tenths(labelWidth + scale(server + postgres) + 5)}" ${text}>${whole(server)} + ${whole(postgres)}</text>`
    })
    return `<text x="${labelWidth}" y="${top}" font-weight="bold">${work}</text>\n${bars.join('\n')}`
  })
  const height = 56 + works.length * groupHeight
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${labelWidth + barsWidth + 90} ${height}" font-family="system-ui, sans-serif" font-size="11" fill="#212529">
<title>CPU time per request</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="12" y="22" font-size="15" font-weight="bold">CPU time per request, µs: server (dark) + PostgreSQL (light)</text>
${groups.join('\n')}
</svg>
`
}

/** What a server is called on a chart: the first word of its name. */
function nameOnly(name: string): string {
  return name.split(/[:(]/)[0]!.replace(/ [\d.]+.*/, '')
}
