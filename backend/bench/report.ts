import { join } from 'node:path'
import { chartOf } from './chart.ts'
import type { Limit } from './limit.ts'
import type { Results } from './results.ts'

/** A table's, without its head. */
export type Rows = (string | number)[][]

type Report = {
  results: Results
  limits: Record<string, Limit>
  starts: Record<string, number>
  pages: Rows
  processes: Rows
  memory: Rows
  crowds: Rows
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

/** No figure here is more exact than that. */
const threeDigits = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 })

function cellOf(value: string | number): string {
  return typeof value === 'number' ? threeDigits.format(value) : value
}

function table(heads: string[], rows: Rows): string {
  return [heads, heads.map(() => '---'), ...rows]
    .map((row) => `| ${row.map(cellOf).join(' | ')} |`)
    .join('\n')
}

/** The goals: the most CPU time ÷ the floor's, and the least throughput ÷ the best peer's. */
const goals: [work: string, cpu: number, throughput: number][] = [
  ['list of 20', 0.3, 3],
  ['list, unchanged', 0.5, 2],
  ['one task', 0.8, 1.3],
  ['create', 0.9, 1.1],
  ['create, fsync on', 0.75, 1.3],
  ['update', 0.9, 1.1],
  ['update, fsync on', 0.75, 1.3],
  ['toggle', 0.9, 1.1],
  ['toggle, fsync on', 0.75, 1.3],
  ['toggle, list', 0.85, 1.2],
  ['toggle, list, fsync on', 0.85, 1.2],
]

function textOf(report: Report): string {
  const { results, limits, starts, pages, processes, memory, crowds, machine, rounds, seconds } =
    report
  const measured = results.works()
  const fastApi = results.throughputRatio('list of 20', (name) => name.startsWith('FastAPI'))
  return `## The figures

${machine}. Medians of ${rounds} rounds of ${seconds} s with 32 connections, on ${new Date().toISOString().slice(0, 10)}.

### Ratios

CPU time is the server's and PostgreSQL's together.

${table(
  ['work', 'CPU ÷ floor', 'goal', 'met', 'throughput ÷ best peer', 'goal', 'met'],
  goals.filter(([work]) => measured.includes(work)).map((goal) => ratioRow(results, goal)),
)}

A list of 20, throughput ÷ FastAPI's: ${threeDigits.format(fastApi)} (goal: ≥ 25).

### Every work

${measured.map((work) => `**${work}**\n\n${tableOf(work, results, limits)}`).join('\n\n')}

### Starting

From the start of the process to its first answer, in milliseconds.

${table(['start', 'ms'], Object.entries(starts))}

### Long lists

CPU time for a page of 50 tasks that is read for the first time, in microseconds.

${table(['tasks in the list', 'server', 'PostgreSQL'], pages)}

### Several processes

Requests per second of all together, 32 connections in all, on one machine with the load and PostgreSQL.

${table(['work', 'processes', 'requests/s'], processes)}

### Memory

After requests of all kinds, resident.

${table(['requests', 'MB'], memory)}

### Many users

CPU time for a request of the same 500 users among others with 20 tasks each, in microseconds.

${table(['work', 'tasks of all users', 'server', 'PostgreSQL'], crowds)}`
}

function ratioRow(results: Results, [work, cpu, throughput]: (typeof goals)[number]) {
  const [ofCpu, ofThroughput] = [results.cpuRatio(work), results.throughputRatio(work)]
  const isMet = [ofCpu <= cpu, ofThroughput >= throughput].map((is) => (is ? 'yes' : 'no'))
  return [work, ofCpu, `≤ ${cpu}`, isMet[0]!, ofThroughput, `≥ ${throughput}`, isMet[1]!]
}

function tableOf(work: string, { names, typical }: Results, limits: Record<string, Limit>): string {
  const figures = ['requestsPerSecond', 'p50', 'p99', 'serverCpu', 'postgresCpu'] as const
  return table(
    ['server', 'requests/s', 'p50 ms', 'p99 ms', 'server CPU µs', 'PostgreSQL CPU µs'],
    [
      ...names.map((name) => [name, ...figures.map((figure) => typical(work, name, figure))]),
      ...Object.entries(limits)
        .filter(([name]) => name === work || name === `${work}, read anew`)
        .map(([name, { transactionsPerSecond, postgresCpu }]) => {
          const label = `Limit: pgbench${name.slice(work.length)}`
          return [label, transactionsPerSecond, '', '', '', postgresCpu]
        }),
    ],
  )
}
