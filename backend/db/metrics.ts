/** What is recorded about statements. */
export type DatabaseMetrics = {
  /**
   * A statement has ended, well or not.
   *
   * @param seconds from when it was asked for, waiting for a connection included
   * @param requests how many requests it served
   */
  observeStatement: (seconds: number, requests: number) => void
  /** Counts requests that were told that the database is unavailable. */
  countUnavailable: (requests: number) => void
}

/** For when nobody asks for metrics. */
export const noDatabaseMetrics: DatabaseMetrics = {
  observeStatement() {},
  countUnavailable() {},
}
