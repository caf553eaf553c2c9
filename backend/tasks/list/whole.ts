import { createLine } from '../../db/line.ts'
import type { Database } from '../../db/pool.ts'
import { taskColumns } from '../columns.ts'
import { readPlace, type Place } from './place.ts'

/** What is asked of a user's list. */
type Asked = {
  owner: string
  /** The place whose page is at hand already, as `writePlace` writes it: at another one it is read. */
  known: string | undefined
  /** Whether the page is to be read at all, or only the place to be looked up. */
  wanted: boolean
  /** How many bytes the page may have; of a larger one only the number is given. */
  most: number
}

export type Whole = Place & { total: number; json: string | null; bytes: number }

type Row = Whole & { place: number }

/**
 * The place of a user's list and, if it is not the one that is known, all of its tasks, oldest first.
 * Whoever asks at the same moment is answered by one statement.
 */
export function createWholeReader({
  queryWithin,
  fragment,
  deadline,
}: Pick<Database, 'queryWithin' | 'fragment' | 'deadline'>) {
  const columns = taskColumns({ fragment })

  const statement = fragment`
      with asked as materialized (
        select
          asked.*, (select value from todo_api.epoch) as epoch_now,
          coalesce((
            select counter from todo_api.task_lists where task_lists.user_id = asked.user_id
          ), 0) as counter_now
        from json_to_recordset(${''}::text::json) as asked (
          place int, user_id text, epoch text, counter bigint, wanted boolean, most bigint, kind text
        )
        -- All are: without it the planner expects a hundred long lists, and compiles the statement.
        where kind = 'list'
      )
      select
        place, epoch_now as epoch, counter_now as counter, total, octet_length(json) as bytes,
        case when octet_length(json) <= most then json end as json
      from asked, lateral (
        select
          count(*) as total,
          '[' || coalesce(string_agg(row_to_json(task)::text, ','), '') || ']' as json
        from (
          select ${columns} from todo_api.tasks
          where tasks.user_id = asked.user_id and deleted_at is null
            -- These are known before any row is: nothing is read of a list that is as it was.
            and wanted and (counter, epoch) <> (counter_now, epoch_now)
          order by tasks.id
        ) as task
      ) as page`

  async function read(asked: readonly Asked[], left: number): Promise<Whole[]> {
    const input = asked.map(({ owner, known, wanted, most }, place) => {
      const { epoch, counter } = (known && readPlace(known)) || { epoch: '', counter: -1 }
      return { place, user_id: owner, epoch, counter, wanted, most, kind: 'list' }
    })
    const rows = await queryWithin(
      left,
      asked.length,
    )<Row>`${statement.with([JSON.stringify(input)])}`
    const found = Array.from<Whole>({ length: asked.length })
    for (const row of rows) found[row.place] = row
    return found
  }

  return createLine<Asked, Whole>({ send: read, width: 1, most: 64, deadline, longest: 500 })
}
