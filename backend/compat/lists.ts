import type { Dialect } from './paths.ts'
import type { TranslatePiece } from './pieces.ts'
import type { Slice } from './slices.ts'
import { translateTasks } from './words.ts'

/** How a task begins. A quote in a text has a backslash before it, so nothing else looks like it. */
const taskBegins = '{"id":'

/** Up to where there are whole tasks in a piece of a list, the comma after them included. */
export function wholeTasksIn(text: string): number {
  return text.lastIndexOf(`,${taskBegins}`) + 1
}

/**
 * Turns a list into the dialect's, in the pieces in which it comes.
 *
 * @param slice the part of it that was asked for; absent if all of it was
 * @param total how many tasks there are in all
 */
export function createListTranslator(
  dialect: Dialect,
  slice: Slice | undefined,
  total: number,
): TranslatePiece {
  const { offset: first, limit } = slice ?? { offset: 0, limit: Infinity }
  let isBegun = false
  let passed = 0
  let count = 0

  /** The tasks in a piece that are asked for, with commas between them. */
  function choose(piece: string): string {
    let start: number | undefined
    let end = piece.length - 1 // of the comma after the last, or the bracket
    for (let at = piece.indexOf(taskBegins); at !== -1; at = piece.indexOf(taskBegins, at + 1)) {
      const place = passed - first
      passed += 1
      if (place < 0) continue
      if (place >= limit) {
        end = at - 1
        break
      }
      start ??= at
      count += 1
    }
    return start === undefined ? '' : piece.slice(start, end)
  }

  return function translateList(piece, isLast) {
    const comma = count > 0
    const tasks = choose(piece)
    const begin = isBegun ? '' : before[dialect]
    isBegun = true
    const end = isLast ? after[dialect]({ total, count, ...slice }) : ''
    return `${begin}${comma && tasks !== '' ? ',' : ''}${translateTasks(tasks)}${end}`
  }
}

const before: Record<Dialect, string> = { array: '[', tasks: '{"tasks":[', items: '{"items":[' }

type Numbers = { total: number; count: number } & Partial<Slice>

const after: Record<Dialect, (numbers: Numbers) => string> = {
  array: () => ']',
  tasks: ({ total, count }) => `],"total":${total},"count":${count}}`,
  // A limit of 0 would be divided by.
  items: ({ total, limit = Math.max(total, 1), offset = 0 }) =>
    `],"total":${total},"limit":${limit},"offset":${offset}}`,
}
