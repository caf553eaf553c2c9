import type { Database } from '../../db/pool.ts'
import { anySize, NeedsRoom, unlessTooLarge } from '../../db/written.ts'
import { Task, type ListQuery } from '../schemas.ts'
import { digest } from './cursor.ts'
import { isEverything } from './filter.ts'
import { createPageMemory, type TaskPage } from './memory.ts'
import { createPageReader } from './page.ts'
import { writePlace } from './place.ts'
import { readRequest, type ListRequest } from './request.ts'
import { createWholeReader } from './whole.ts'

export type TaskList = ReturnType<typeof createTaskList>

/** Unchanged: the client holds this page already. */
type Found = { state: 'unchanged'; tag: string } | ({ state: 'changed' } & TaskPage)

type IsHeld = (tag: string) => boolean

/** Part of every tag: after a release that adds fields, a page is a new one though no task has changed. */
const fields = Object.keys(Task.properties).join()

/** A user's tasks: filtered, sorted, page by page. */
export function createTaskList(database: Database) {
  const read = createPageReader(database)
  const readWhole = createWholeReader(database)
  const pages = createPageMemory()

  /**
   * A page that was read before is sent again as long as the list's place, which every write to it
   * moves on, is what it was then. It is looked up each time, so that no page is ever old.
   *
   * @param isHeld whether the client has the page with a tag; absent if it has none
   * @param most how many bytes the page may have
   * @throws NeedsRoom if it has more; ApiError `validation_failed` if the cursor is not one of this
   *   query, or PostgreSQL knows no such zone
   */
  return async function list(
    owner: string,
    asked: ListQuery,
    isHeld?: IsHeld,
    most = anySize,
  ): Promise<Found> {
    const request = readRequest(asked)
    // A task becomes overdue as time passes, without a change that would be counted.
    if (request.filter.overdue !== undefined) {
      const page = await read(owner, request, asked.cursor, most)
      return unlessHeld(isHeld, { ...page, tag: digest(`${page.total} ${page.json}`) })
    }
    const whole = JSON.stringify([owner, request, asked.cursor])
    const remembered = pages.get(whole)
    const name = remembered?.name ?? digest(fields + whole)
    const isWhole = isEverything(request.filter) && isPlain(request, asked.cursor)
    // A client that holds a page is likely to hold this one.
    const wanted = isWhole && (remembered !== undefined || isHeld === undefined)
    if (wanted || isHeld !== undefined || remembered !== undefined) {
      const { json, bytes, total, ...place } = await readWhole({
        owner,
        known: remembered && writePlace(remembered.page.place),
        wanted,
        most,
      })
      const tag = `${writePlace(place)}-${name}`
      if (isHeld?.(tag)) return { state: 'unchanged', tag }
      if (remembered?.page.tag === tag) {
        if (remembered.page.bytes > most) throw new NeedsRoom(remembered.page.bytes)
        return { state: 'changed', ...remembered.page }
      }
      if (wanted)
        return {
          state: 'changed',
          ...remember(whole, name, { ...unlessTooLarge({ json, bytes }), total, place, tag }),
        }
    }
    const content = await read(owner, request, asked.cursor, most)
    const tag = `${writePlace(content.place)}-${name}`
    return unlessHeld(isHeld, remember(whole, name, { ...content, tag }))
  }

  function remember(asked: string, name: string, page: TaskPage): TaskPage {
    pages.set(asked, { name, page })
    return page
  }
}

/** Whether all tasks are on one page, in the order in which they were created. */
function isPlain({ sort, limit }: ListRequest, cursor: string | undefined): boolean {
  return sort.by === 'created' && !sort.descending && limit === undefined && cursor === undefined
}

function unlessHeld(isHeld: IsHeld | undefined, page: TaskPage): Found {
  const { tag } = page
  return isHeld?.(tag) ? { state: 'unchanged', tag } : { state: 'changed', ...page }
}
