import { describe, expect, test } from 'bun:test'
import {
  apply,
  judge,
  type History,
  type State,
  type Write,
  type WriteEvent,
} from '../../battery/history.ts'

const created: State = {
  title: 'Buy milk',
  description: null,
  completed: false,
  priority: 'none',
  place: 'list',
}
const create: Write = { does: 'create', fields: { title: 'Buy milk' } }
const rename = (title: string): Write => ({ does: 'update', fields: { title } })
const renamed = (title: string): State => ({ ...created, title })

function done(
  write: Write,
  [began, ended]: [number, number],
  version?: number,
  shown?: State,
): WriteEvent {
  return {
    write,
    began,
    ended,
    outcome: {
      is: 'done',
      ...(version !== undefined && { version }),
      ...(shown && { shown }),
    },
  }
}

function unknown(write: Write, began: number): WriteEvent {
  return { write, began, ended: Infinity, outcome: { is: 'unknown' } }
}

/** A history that begins with the task's creation, at the times 1 and 2. */
function after(rest: Partial<History>): History {
  return {
    sights: [],
    absences: [],
    ...rest,
    writes: [done(create, [1, 2], 1, created), ...(rest.writes ?? [])],
  }
}

const problemOf = (history: History) => {
  const verdict = judge(history)
  return 'problem' in verdict ? verdict.problem : undefined
}

describe('a history is explained', () => {
  test('if writes at the same time took effect in either order', () => {
    const history = after({
      writes: [
        done(rename('B'), [3, 9], 3, renamed('B')),
        done(rename('A'), [4, 8], 2, renamed('A')),
      ],
      sights: [
        { version: 1, shown: created, began: 3, ended: 9 },
        { version: 2, shown: renamed('A'), began: 3, ended: 9 },
      ],
      last: { version: 3, state: renamed('B') },
    })
    expect(judge(history)).toEqual({ effects: 3 })
  })

  test('if a write without an answer took effect, and if it did not', () => {
    const lost = unknown(rename('A'), 3)
    expect(judge(after({ writes: [lost], last: { version: 2, state: renamed('A') } }))).toEqual({
      effects: 2,
    })
    expect(judge(after({ writes: [lost], last: { version: 1, state: created } }))).toEqual({
      effects: 1,
    })
  })

  test('if the versions of deletions are found in the gaps', () => {
    const history = after({
      writes: [
        done({ does: 'remove' }, [3, 4]),
        done({ does: 'restore' }, [5, 6], 3, created),
        done({ does: 'remove' }, [7, 8]),
        done({ does: 'destroy' }, [9, 10]),
      ],
      absences: [
        { from: ['list'], began: 4.5, ended: 5.5 },
        { from: ['list', 'trash'], began: 11, ended: 12 },
      ],
    })
    expect(judge(history)).toEqual({ effects: 5 })
  })
})

describe('a violation is', () => {
  test('a lost update: two writes that made the same version', () => {
    const history = after({
      writes: [
        done(rename('A'), [3, 9], 2, renamed('A')),
        done(rename('B'), [4, 8], 2, renamed('B')),
      ],
      last: { version: 2, state: renamed('B') },
    })
    expect(problemOf(history)).toBe('two writes made version 2')
  })

  test('a lost update: a confirmed write that left nothing in the database', () => {
    const confirmed = done(rename('A'), [3, 4], 2, renamed('A'))
    const last = { version: 1, state: created }
    expect(problemOf(after({ writes: [confirmed], last }))).toContain('the database has version 1')
    const removed = done({ does: 'remove' }, [3, 4])
    expect(problemOf(after({ writes: [removed], last }))).toContain('had no effect')
  })

  test('a field that another write took back', () => {
    const history = after({
      writes: [
        done({ does: 'toggle' }, [3, 4], 2, { ...created, completed: true }),
        done(rename('A'), [5, 6], 3, renamed('A')),
      ],
      last: { version: 3, state: renamed('A') },
    })
    expect(problemOf(history)).toContain('update answered')
  })

  test('a stale read: an older version after a newer one was confirmed', () => {
    const history = after({
      writes: [done(rename('A'), [3, 4], 2, renamed('A'))],
      sights: [{ version: 1, shown: created, began: 5, ended: 6 }],
      last: { version: 2, state: renamed('A') },
    })
    expect(problemOf(history)).toContain('version 2')
  })

  test('a stale read: an older version after a newer one was read', () => {
    const history = after({
      writes: [done(rename('A'), [3, 20], 2, renamed('A'))],
      sights: [
        { version: 2, shown: renamed('A'), began: 4, ended: 5 },
        { version: 1, shown: created, began: 6, ended: 7 },
      ],
      last: { version: 2, state: renamed('A') },
    })
    expect(problemOf(history)).toContain('before')
  })

  test('a read of what nobody wrote', () => {
    const history = after({
      sights: [{ version: 1, shown: renamed('?'), began: 3, ended: 4 }],
      last: { version: 1, state: created },
    })
    expect(problemOf(history)).toContain('was shown as')
  })

  test('a duplicated write: it counts a version more than there were writes', () => {
    const history = after({
      writes: [done({ does: 'toggle' }, [3, 4], 2, { ...created, completed: true })],
      last: { version: 3, state: created },
    })
    expect(problemOf(history)).toContain('version 3: no write explains it')
  })

  test('a write that passed its If-Match at another version', () => {
    const event = { ...done(rename('A'), [3, 4], 2, renamed('A')), onlyAt: 7 }
    const history = after({ writes: [event], last: { version: 2, state: renamed('A') } })
    expect(problemOf(history)).toContain('should have been')
  })

  test('a task that is not found while it is there, or is after its end', () => {
    const absence = { from: ['list' as const], began: 3, ended: 4 }
    expect(
      problemOf(after({ absences: [absence], last: { version: 1, state: created } })),
    ).toContain('was not found in list')
    const history = after({
      writes: [done({ does: 'destroy' }, [3, 4])],
      sights: [{ version: 1, shown: created, began: 5, ended: 6 }],
    })
    expect(problemOf(history)).toContain('before')
  })
})

test.each([
  ['writes lost', { last: { version: 1, state: created } }],
  ['writes lost', {}],
  ['duplicates', { last: { version: 3, state: renamed('A') } }],
  ['wrong answers', { last: { version: 2, state: renamed('B') } }],
])('a violation counts among the %s', (figure, rest) => {
  const writes = [done(rename('A'), [3, 4], 2, renamed('A'))]
  expect(judge(after({ writes, ...rest }))).toMatchObject({ figure })
})

test('no write is refused and has an effect', () => {
  const places = ['list', 'trash', 'nowhere'] as const
  const writes: Write[] = [
    { does: 'toggle' },
    { does: 'remove' },
    { does: 'restore' },
    { does: 'destroy' },
  ]
  const allowed = writes.map(({ does }) =>
    places.filter((place) => apply({ does } as Write, { ...created, place }, 1)),
  )
  expect(allowed).toEqual([['list'], ['list'], ['trash'], ['list', 'trash']])
})
