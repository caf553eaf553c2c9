import { median, type Sample } from './measure.ts'

const key = (work: string, name: string) => `${work}\n${name}`

const cpuOf = ({ serverCpu, postgresCpu }: Sample) => serverCpu + postgresCpu

export type Results = ReturnType<typeof createResults>

/** The samples of all rounds, by work and server. The names are ours, the floor's and the peers'. */
export function createResults(names: string[]) {
  const samples = new Map<string, Sample[]>()
  const [ours, floor, ...peers] = names
  const of = (work: string, name: string) => samples.get(key(work, name)) ?? []

  /** The median of what our samples of a work come to, each compared with those of the same round. */
  function ratio(work: string, by: (own: Sample, round: (name: string) => Sample) => number) {
    const ratios = of(work, ours!).map((own, round) => by(own, (name) => of(work, name)[round]!))
    return median(ratios)
  }

  return {
    names,
    /** The works that were measured. */
    works: () => [...new Set([...samples.keys()].map((entry) => entry.split('\n')[0]!))],
    add(work: string, name: string, sample: Sample): void {
      samples.set(key(work, name), [...of(work, name), sample])
    },
    typical: (work: string, name: string, figure: keyof Sample) =>
      median(of(work, name).map((sample) => sample[figure])),
    /** CPU time of a request, server and PostgreSQL, ours ÷ the floor's: the median of the rounds' ratios. */
    cpuRatio: (work: string) => ratio(work, (own, round) => cpuOf(own) / cpuOf(round(floor!))),
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
