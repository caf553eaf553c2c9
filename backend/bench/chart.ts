import type { Results } from './results.ts'

const bar = { height: 14, step: 17, from: 150, most: 560 } // pixels
const groupGap = 34
const top = 56
const colours = { ours: ['#0b7285', '#99e9f2'], others: ['#868e96', '#dee2e6'] } as const

/** A bar of CPU time per server and work: the server's part, then PostgreSQL's. FastAPI would be off the scale. */
export function chartOf({ names, typical, works }: Results): string {
  const shown = names.filter((name) => !name.startsWith('FastAPI'))
  const figures = works().map((work) => ({
    work,
    rows: shown.map((name) => ({
      // The first word of its name.
      label: name.split(/[:(]/)[0]!.replace(/ [\d.]+.*/, ''),
      server: typical(work, name, 'serverCpu'),
      postgres: typical(work, name, 'postgresCpu'),
    })),
  }))
  const sums = figures.flatMap(({ rows }) => rows.map(({ server, postgres }) => server + postgres))
  const scale = (microseconds: number) => (microseconds / Math.max(...sums)) * bar.most
  const groupHeight = shown.length * bar.step + groupGap

  const groups = figures.map(({ work, rows }, group) => {
    const y = top + group * groupHeight
    const bars = rows.map(({ label, server, postgres }, index) => {
      const middle = bar.from + scale(server)
      const end = middle + scale(postgres)
      const at = y + 8 + index * bar.step
      const [dark, light] = index === 0 ? colours.ours : colours.others
      const box = (from: number, to: number, colour: string) =>
        `<rect x="${from.toFixed(1)}" y="${at}" width="${(to - from).toFixed(1)}" height="${bar.height}" fill="${colour}"/>`
      const line = `y="${at + bar.height - 3}"`
      return `<text x="${bar.from - 6}" ${line} text-anchor="end">${label}</text>
${box(bar.from, middle, dark)}
${box(middle, end, light)}
<text x="${(end + 5).toFixed(1)}" ${line}>${Math.round(server).toLocaleString('en')} + ${Math.round(postgres).toLocaleString('en')}</text>`
    })
    return `<text x="${bar.from}" y="${y}" font-weight="bold">${work}</text>\n${bars.join('\n')}`
  })
  const size = `${bar.from + bar.most + 90} ${top + figures.length * groupHeight}`
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size}" font-family="system-ui, sans-serif" font-size="11" fill="#212529">
<title>CPU time per request</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="12" y="22" font-size="15" font-weight="bold">CPU time per request, µs: server (dark) + PostgreSQL (light)</text>
${groups.join('\n')}
</svg>
`
}
