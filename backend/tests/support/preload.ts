import { afterAll, setDefaultTimeout } from 'bun:test'
import { closeDatabase } from './api.ts'

// For tests that start processes, on a machine that is busy with other things. It holds for the first
// file only; if there are more, the scripts say it with --timeout.
setDefaultTimeout(60_000)
afterAll(closeDatabase)
