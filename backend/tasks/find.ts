import { createLine } from '../db/line.ts'
import type { Database } from '../db/pool.ts'
import { ApiError } from '../http/failures.ts'
import { taskColumns } from './columns.ts'

/** A task as the client gets it: the JSON that PostgreSQL wrote, and its version. */
type StoredTask = { version: number; json: string }

type Asked = { owner: string; id: number }
type Found = { version: number | null; json: string | null; is_others: boolean | null }

/** Finds one task. Those who ask at the same moment share a statement. */
export function createFinder(database: Database) {
  const { queryWithin, fragment, deadline } = database
  const columns = taskColumns(database)
  const readTogether = createLine<Asked, Found>({
    send: read,
    width: 1,
    most: 64,
    deadline,
    longest: 500,
  })

  const readStatement = fragment`
    select
      input.place, found.version, found.json,
      case when found.version is null then
        (select true from todo_api.tasks where tasks.id = input.id and deleted_at is null limit 1)
      end as is_others
    from json_to_recordset(${''}::text::json) as input (place int, user_id text, id bigint)
    left join lateral (
      select version, row_to_json(task)::text as json
      from (
        select ${columns} from todo_api.tasks
        where tasks.user_id = input.user_id and tasks.id = input.id and deleted_at is null
      ) as task
      offset 0
    ) as found on true`

  async function read(asked: readonly Asked[], left: number): Promise<Found[]> {
    const input = asked.map(({ owner, id }, place) => ({ place, user_id: owner, id }))
    const statement = readStatement.with([JSON.stringify(input)])
    const found = Array.from<Found>({ length: asked.length })
    for (const row of await queryWithin(left, asked.length)<
      Found & { place: number }
    >`${statement}`)
      found[row.place] = row
    return found
  }

  /** @throws ApiError `not_owner`, `task_not_found` */
  return async function findTask(owner: string, id: number): Promise<StoredTask> {
    const { version, json, is_others } = await readTogether(owner, { owner, id })
    if (version === null) throw new ApiError(is_others ? 'not_owner' : 'task_not_found')
    return { version, json: json! }
  }
}
