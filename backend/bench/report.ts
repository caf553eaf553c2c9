import { join } from 'node:path'
import { chartOf } from './chart.ts'
import type { measureMemory, measurePages, measureProcesses } from './extra.ts'
import type { Limit } from './limit.ts'
import { median, type Sample } from './measure.ts'
import { works } from './work.ts'

const key = (work: string, name: string) => `${work}\n${name}`

export type Results = ReturnType<typeof createResults>

/** The samples of all rounds, by work and server. The names are ours, the floor's and the peers'. */
export function createResults(names: string[]) {
  const samples = new Map<string, Sample[]>()
  const [ours, floor, ...peers] = names
  const of = (work: string, name: string) => samples.get(key(work, name)) ?? []

  /** The median of what our samples of a work come to, each beside those of the same round. */
  function ratio(work: string, by: (own: Sample, round: (name: string) => Sample) => number) {
    const ratios = of(work, ours!).map((own, round) => by(own, (name) => of(work, name)[round]!))
    return median(ratios)
  }

  return {
    names,
    /** The works that were measured. */
    works: () => works.map(({ name }) => name).filter((work) => of(work, ours!).length > 0),
    add(work: string, name: string, sample: Sample): void {
      samples.set(key(work, name), [...of(work, name), sample])
    },
    typical: (work: string, name: string, figure: keyof Sample) =>
      median(of(work, name).map((sample) => sample[figure])),
    /** Server CPU time of a request, ours ÷ the floor's: the median of the rounds' ratios. */
    cpuRatio: (work: string) =>
      ratio(work, ({ serverCpu }, round) => serverCpu / round(floor!).serverCpu),
    /** Requests per second, ours ÷ those of the peer that has the most in that round. */
    throughputRatio(work: string, among: (name: string) => boolean = () => true): number {
      const others = peers.filter(among)
      return ratio(work, ({ requestsPerSecond }, round) => {
        const best = Math.max(...others.map((name) => round(name).requestsPerSecond))
        return requestsPerSecond / best
      })
    },
  }
}

type Report = {
  results: Results
  limits: Record<string, Limit>
  starts: Record<string, number>
  pages: Awaited<ReturnType<typeof measurePages>>
  processes: Awaited<ReturnType<typeof measureProcesses>>
  memory: Awaited<ReturnType<typeof measureMemory>>
  machine: string
  rounds: number
  seconds: number
}

const document = join(import.meta.dir, '../../docs/performance.md')
const chart = join(import.meta.dir, '../../docs/performance.svg')

/** Writes the report into the documentation, if it is to be kept, and gives its text. */
export async function writeReport(report: Report, isKept: boolean): Promise<string> {
  const text = textOf(report)
  if (!isKept) return text
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

function textOf(report: Report): string {
  const { results, limits, starts, pages, processes, memory, machine, rounds, seconds } = report
  const measured = results.works()
  const fastApi = results.throughputRatio('list of 20', (name) => name.startsWith('FastAPI'))
  return `## The figures

${machine}. Medians of ${rounds} rounds of ${seconds} s with 32 connections, on ${new Date().toISOString().slice(0, 10)}.

### Ratios

${table(
  ['work', 'server CPU ÷ floor', 'goal', 'met', 'throughput ÷ best peer', 'goal', 'met'],
  goals.filter(([work]) => measured.includes(work)).map((goal) => ratioRow(results, goal)),
)}

A list of 20, throughput ÷ FastAPI's: ${tenths(fastApi)} (goal: ≥ 25).

### Every work

${measured.map((work) => `**${work}**\n\n${tableOf(work, results, limits)}`).join('\n\n')}

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
  pages.map(({ tasks, cpu }) => [whole(tasks), ...cpu.map(tenths)]),
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

function ratioRow(results: Results, [work, cpu, throughput]: (typeof goals)[number]): string[] {
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
}

function tableOf(work: string, { names, typical }: Results, limits: Record<string, Limit>): string {
  return table(
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
  )
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
