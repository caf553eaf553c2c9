/** As much of `pg`, which comes without types, as Better Auth is given in a test. */
declare module 'pg' {
  import type { PostgresPool } from 'kysely'

  export class Pool implements PostgresPool {
    constructor(settings: object)
    connect: PostgresPool['connect']
    end: PostgresPool['end']
    options: PostgresPool['options']
    on(event: 'error', listener: (error: Error) => void): this
  }
}
