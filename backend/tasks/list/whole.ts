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

type Row = Whole & { place: number; is_left: boolean }

/** How much of one user's list is read in a statement that others wait for. */
const shared = { longest: 100 /* tasks */, most: 64 * 1024 /* bytes */ }
const own = { longest: Number.MAX_SAFE_INTEGER, most: Number.MAX_SAFE_INTEGER }

/**
 * The place of a user's list and, if it is not the one that is known, all of its tasks, oldest first.
 * Users who ask at the same moment are answered by one statement. It leaves out long lists, which are read
 * at their users' own turns, so that nobody waits for another's.
 */
export function createWholeReader({
  queryFor,
  queryWithin,
  fragment,
  deadline,
}: Pick<Database, 'queryFor' | 'queryWithin' | 'fragment' | 'deadline'>) {
  const columns = taskColumns({ fragment })

  // Ten rows are looked at for each task that there may be, since some are in the trash.
  const statement = fragment`
      with asked as materialized (
        select
          asked.*, epoch_now, coalesce(list.counter, 0) as counter_now, coalesce(task_count, 0) as tasks_now,
          wanted and (asked.counter, epoch) <> (coalesce(list.counter, 0), epoch_now) as is_read
        from json_to_recordset(${''}::text::json) as asked (
          place int, user_id text, epoch text, counter bigint, wanted boolean, longest bigint, most bigint,
          kind text
        )
        cross join (select (select value from todo_api.epoch) as epoch_now) as now_so
        left join lateral (
          select counter, task_count from todo_api.task_lists where task_lists.user_id = asked.user_id
          offset 0
        ) as list on true
        -- All are: without it the planner expects a hundred long lists, and compiles the statement.
        where kind = 'list'
      )
      select
        place, epoch_now as epoch, counter_now as counter, total, octet_length(json) as bytes,
        is_read and total <> tasks_now as is_left,
        case when octet_length(json) <= most then json end as json
      from asked, lateral (
        select
          count(*) as total,
          '[' || coalesce(string_agg(row_to_json(task)::text, ','), '') || ']' as json
        from (
          select ${columns} from (
            select * from todo_api.tasks
            where tasks.user_id = asked.user_id
              -- These are known before any row is: nothing is read of a list that is as it was.
              and is_read and tasks_now <= longest
            order by tasks.id
            limit 10 * longest
          ) as tasks
          where deleted_at is null
          order by tasks.id
        ) as task
      ) as page`

  function inputOf(asked: readonly Asked[], { longest, most }: typeof shared): string {
    const input = asked.map((each, place) => {
      const { epoch, counter } = (each.known && readPlace(each.known)) || { epoch: '', counter: -1 }
      const { owner: user_id, wanted } = each
      const limits = { longest, most: Math.min(most, each.most) }
      return { place, user_id, epoch, counter, wanted, ...limits, kind: 'list' }
    })
    return JSON.stringify(input)
  }

  const readTogether = createLine<Asked, Row>({
    async send(asked, left) {
      const query = queryWithin(left, asked.length)
      const rows = await query<Row>`${statement.with([inputOf(asked, shared)])}`
      const found = Array.from<Row>({ length: asked.length })
      for (const row of rows) found[row.place] = row
      return found
    },
    width: 1,
    most: 64,
    deadline,
    longest: 500,
  })

  return async function readWhole(asked: Asked): Promise<Whole> {
    const found = await readTogether(asked.owner, asked)
    const isForUs = found.json === null && found.bytes <= asked.most
    if (!found.is_left && !isForUs) return found
    const [row] = await queryFor(asked.owner)<Row>`${statement.with([inputOf([asked], own)])}`
    return row!
  }
}
