import { expect, test } from 'bun:test'
import * as fc from 'fast-check'
import { createListTranslator, wholeTasksIn } from '../../compat/lists.ts'
import { translateInPieces } from '../../compat/pieces.ts'
import { translateTasks } from '../../compat/words.ts'

const at = '2026-03-01T08:30:00.000Z'
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.constantFrom('"completed":true,', ',{"id":1', '"priority":"none"', '"due_date":"', '\\', '😀'),
)
/** As PostgreSQL writes them, with a field that no dialect knows. */
const tasks = fc.array(
  fc
    .record({
      id: fc.nat(),
      title: text,
      completed: fc.boolean(),
      priority: fc.constantFrom('none', 'low', 'medium', 'high'),
      tags: fc.array(text, { maxLength: 2 }),
      due: fc.constantFrom(
        [null, null, null],
        ['2026-03-01', null, null],
        ['2026-03-01', '09:30', null],
        ['2026-03-01', '09:30', at],
      ),
      unknown: fc.oneof(text, fc.array(fc.record({ at: text }), { maxLength: 2 })),
    })
    .map(({ id, title, completed, priority, tags, due: [date, time, instant], unknown }) => ({
      id,
      title,
      completed,
      priority,
      tags,
      due_date: date,
      due_time: time,
      due_at: instant,
      unknown,
    })),
  { maxLength: 8 },
)
type Task = (typeof tasks extends fc.Arbitrary<infer List> ? List : never)[number]

function told({ completed, priority, due_date: date, due_at: instant, ...task }: Task) {
  return {
    ...task,
    completed,
    is_completed: completed,
    status: completed ? 'completed' : 'pending',
    priority: priority === 'none' ? 'medium' : priority,
    due_date: instant ?? (task.due_time === null ? date : `${date}T${task.due_time}:00`),
    due_at: instant,
  }
}

test('a task comes out as it is, whatever its texts are, and what is unknown is passed on', () => {
  fc.assert(
    fc.property(tasks, (list) => {
      expect(JSON.parse(translateTasks(JSON.stringify(list)))).toEqual(list.map(told))
    }),
    { numRuns: 500 },
  )
})

test('a list comes out the same, however it is cut on its way', async () => {
  const slice = fc.record({ offset: fc.nat({ max: 9 }), limit: fc.integer({ min: 1, max: 9 }) })
  await fc.assert(
    fc.asyncProperty(
      tasks,
      fc.option(slice, { nil: undefined }),
      fc.integer({ min: 1, max: 400 }),
      async (list, part, size) => {
        const translate = createListTranslator('tasks', part, list.length)
        const bytes = Buffer.from(JSON.stringify(list))
        const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
          bytes.subarray(index * size, (index + 1) * size),
        )
        const source = new ReadableStream<Uint8Array>({
          pull(controller) {
            const piece = pieces.shift()
            if (piece) controller.enqueue(piece)
            else controller.close()
          },
        })
        const wanted = part ? list.slice(part.offset, part.offset + part.limit) : list
        const answer = new Response(translateInPieces(source, wholeTasksIn, translate))
        expect(await answer.json()).toEqual({
          tasks: wanted.map(told),
          total: list.length,
          count: wanted.length,
        })
      },
    ),
    { numRuns: 300 },
  )
})
