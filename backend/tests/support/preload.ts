import { afterAll, setDefaultTimeout } from 'bun:test'
import { closeDatabase } from './api.ts'

// For tests that start processes, on a machine that is busy with other things.
setDefaultTimeout(30_000)
afterAll(closeDatabase)
