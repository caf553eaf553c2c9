import { withDatabase } from './database.ts'

/** Brings the tables up to date and does no more, for a role that may, before servers whose role may not. */
export async function migrate(): Promise<string> {
  const [last] = await withDatabase(
    async ({ query }) => query<{ name: string }>`
      select max(name) as name from todo_api.schema_migrations`,
  )
  return `The tables are up to date: ${last!.name}.`
}
