import { join } from 'node:path'
import type { Postgres } from './postgres.ts'
import { repository } from './server.ts'

/** Splits the tables of a database as docs/operations.md says how to. */
export async function partition(admin: Postgres['admin'], role: string): Promise<void> {
  const script = await Bun.file(join(repository, 'docs/partition.sql')).text()
  await admin.unsafe(`set local role ${role}; ${script}`)
}
