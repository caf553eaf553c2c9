import { markRestored } from '../tasks/restored.ts'
import { withDatabase } from './database.ts'

/** To be run after a restore from a backup, before clients come back. */
export async function restored(): Promise<string> {
  await withDatabase(markRestored)
  return 'The database is marked as restored: no tag, version, sync token or event id from before is believed.'
}
