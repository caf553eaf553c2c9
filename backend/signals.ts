/**
 * The signals that stop this process. Imported before anything else: as the first process of a
 * container, it would ignore a signal for which it has no handler yet.
 */
export type StopSignal = (typeof stopSignals)[number]

/** With SIGHUP comes the end of the terminal that the server was started on. */
const stopSignals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const

let stop: (signal: StopSignal) => void = () => process.exit(0)

for (const signal of stopSignals) process.on(signal, () => stop(signal))

/** Says what such a signal does from now on. Until then it ends the process at once, with exit code 0. */
export function onStopSignal(handler: (signal: StopSignal) => void): void {
  stop = handler
}
