import { forget } from '../tasks/forget.ts'
import { withDatabase } from './database.ts'

/** Removes all that is kept of a user whose account is gone. */
export async function forgetUser(user: string): Promise<string> {
  const forgotten = await withDatabase(async (database) => forget(database, user))
  const rows = Object.entries(forgotten).filter(([, count]) => count > 0)
  if (rows.length === 0) return 'Nothing is kept of this user.'
  return `Removed for good: ${rows.map(([table, count]) => `${count} of ${table}`).join(', ')}.`
}
