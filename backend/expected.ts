import { SessionsMissing } from './auth/sessions.ts'
import { ConfigError } from './config.ts'
import { DirectoryUnusable } from './db/data-directory.ts'
import { MigrationFailed } from './db/migrate.ts'
import { DatabaseUnavailable, StatementFailed } from './db/failures.ts'
import { DatabaseUnusable } from './db/refusal.ts'
import { CannotListen } from './server.ts'

const kinds = [
  ConfigError,
  DatabaseUnavailable,
  DatabaseUnusable,
  DirectoryUnusable,
  MigrationFailed,
  StatementFailed,
  CannotListen,
  SessionsMissing,
]

/** Whether its message is all that a person needs to know about why a program did not start. */
export function isExpected(error: unknown): error is Error {
  return kinds.some((kind) => error instanceof kind)
}
