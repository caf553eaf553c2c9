import { ApiError } from '../../http/failures.ts'
import {
  sortKeys,
  type ListQuery,
  type SortKey,
  type TaskPriority,
  type TaskStatus,
} from '../schemas.ts'

const mostWords = 20 // each is looked for in every task

/** What a list is asked for, in one spelling. */
export type ListRequest = {
  filter: {
    status: TaskStatus
    priority?: TaskPriority
    tags: string[]
    words: string[]
    dueFrom?: string
    dueTo?: string
    overdue?: boolean
    timeZone: string
  }
  sort: { by: SortKey; descending: boolean }
  limit?: number
}

/** Brings the spellings that front ends use into one. */
export function readRequest(query: ListQuery): ListRequest {
  const { priority, due_from: dueFrom, due_to: dueTo, limit } = query
  const text = query.q ?? query.search ?? ''
  const words = [...new Set(text.split(/\s+/u).filter((word) => word !== ''))]
  if (words.length > mostWords)
    refuseParameter(
      query.q === undefined ? 'search' : 'q',
      `must be ${mostWords} different words at most`,
    )
  const { sort = 'created' } = query
  const by = sort.replace(/^-|_at$/g, '')
  return {
    filter: {
      status:
        query.status ??
        (query.completed === undefined
          ? 'all'
          : query.completed === 'true'
            ? 'completed'
            : 'pending'),
      tags: [query.tag ?? []].flat().toSorted(),
      words,
      timeZone: query.tz ?? 'UTC',
      ...(priority !== undefined && { priority }),
      ...(dueFrom !== undefined && { dueFrom }),
      ...(dueTo !== undefined && { dueTo }),
      ...(query.overdue !== undefined && { overdue: query.overdue === 'true' }),
    },
    sort: {
      by: sortKeys.find((key) => key === by) ?? 'created',
      descending: query.order === undefined ? sort.startsWith('-') : query.order === 'desc',
    },
    ...(limit !== undefined && { limit }),
  }
}

export function refuseParameter(field: string, detail: string): never {
  throw new ApiError('validation_failed', { errors: [{ field, detail }] })
}
