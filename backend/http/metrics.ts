import { noDatabaseMetrics, type DatabaseMetrics } from '../db/metrics.ts'

/** Is told what this process does. */
export type Metrics = DatabaseMetrics & {
  /**
   * A request has been answered.
   *
   * @param route the pattern of its path. Absent or unknown: no route took it
   * @param seconds from when its headers were read
   */
  observeRequest: (
    method: string,
    route: string | undefined,
    status: number,
    seconds: number,
  ) => void
  countPurged: (kind: string, rows: number) => void
  /** Names the one to ask how many event streams are open. */
  watchStreams: (count: () => number) => void
}

/** For when nobody asks for metrics. */
export const noMetrics: Metrics = {
  ...noDatabaseMetrics,
  observeRequest() {},
  countPurged() {},
  watchStreams() {},
}
