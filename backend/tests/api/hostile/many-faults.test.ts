import { expect, test } from 'bun:test'
import { createCheck } from '../../../http/body.ts'
import { BulkRequest } from '../../../tasks/bulk.ts'
import { NewTask } from '../../../tasks/schemas.ts'
import { bearer, createProbe, parsed } from '../../support/probe.ts'

const probe = await createProbe()

/** Bodies with more faults than anybody reads. */
function bodies(bytes: number): [what: string, data: object][] {
  const numbers = Array.from({ length: bytes / 2 - 100 }, () => 1)
  const texts = Array.from({ length: bytes / 8 }, (_, index) => String(index))
  const names = Object.fromEntries(texts.slice(0, bytes / 64).map((text) => [`n${text}`, null]))
  return [
    ['numbers for tags', { title: 'x', tags: numbers }],
    ['texts for tags', { title: 'x', tags: texts }],
    ['20 empty tags', { title: 'x', tags: Array.from({ length: 20 }, () => '') }],
    ['a list for a tag', { title: 'x', tags: [numbers] }],
    ['a long tag', { title: 'x', tags: ['x'.repeat(bytes - 100)] }],
    ['a list for a title', { title: numbers }],
    ['a long title', { title: 'x'.repeat(bytes - 100) }],
    ['lists for a time', { title: 'x', due_time: numbers, due_timezone: texts.slice(0, 10) }],
    ['names that nobody knows', { title: null, ...names }],
    ['names beside a null', { title: null, tags: [null], reminders: [null], ...names }],
  ]
}

const largest = 64 * 1024
const largestBulk = 512 * 1024

/** What is told stays small, whatever was sent. */
function expectSmall(what: string, text: string): void {
  const { code, errors } = parsed(text)
  expect([what, code]).toEqual([what, 'validation_failed'])
  expect([what, (errors as object[]).length <= 32, text.length < 16_384]).toEqual([
    what,
    true,
    true,
  ])
}

test.each(bodies(largest))('%s: the 422 of every route is small', async (what, data) => {
  const { task, ...user } = await probe.userWithTask()
  const headers = bearer(user)
  for (const [method, target] of [
    ['POST', '/api/tasks'],
    ['PUT', `/api/tasks/${task.id}`],
    ['PATCH', `/api/${user.id}/tasks/${task.id}`],
    ['POST', '/compat/tasks/api/todos'],
  ] as const) {
    const body = JSON.stringify({
      ...data,
      ...(target.startsWith('/compat') && { is_completed: 1 }),
    })
    const answer = await probe.send(what, { method, target, headers, body }, 422)
    expectSmall(what, answer.text)
  }
})

test.each(bodies(largestBulk))('%s: the 422 of a bulk request is small', async (what, data) => {
  const { task, ...user } = await probe.userWithTask()
  const share = JSON.stringify(data).length < 10_000 ? 100 : 1
  const operations = Array.from({ length: share }, () => ({ op: 'create', data }))
  for (const sent of [
    { operations },
    { operations: [{ op: 'update', id: task.id, data }] },
    { operations: [null, ...operations.slice(1)], ...data },
  ]) {
    const body = JSON.stringify(sent)
    const message = { method: 'POST', target: '/api/tasks/bulk', headers: bearer(user), body }
    const answer = await probe.send(what, message, 422)
    expectSmall(what, answer.text)
  }
})

test('too many operations are one fault, whatever is in them', async () => {
  const user = await probe.userWithTask()
  const operations = Array.from({ length: 40_000 }, () => ({ op: 1 }))
  const body = JSON.stringify({ operations })
  const message = { method: 'POST', target: '/api/tasks/bulk', headers: bearer(user), body }
  const { text } = await probe.send('operations', message, 422)
  expect(parsed(text)['errors']).toMatchObject([{ field: 'operations' }])
})

test('nothing is looked at inside of what is wrong as a whole', () => {
  let looks = 0
  const list = new Proxy(
    Array.from({ length: 1_000 }, () => 'x'),
    {
      get(target, name, receiver): unknown {
        if (typeof name === 'string' && /^\d+$/.test(name)) looks += 1
        return Reflect.get(target, name, receiver)
      },
    },
  )
  const check = createCheck(NewTask)
  for (const data of [
    { tags: [list] },
    { tags: list },
    { reminders: list },
    { title: list },
    { description: list },
    { due_time: list },
  ])
    expect(check({ title: 'x', ...data }, 'body').errors).toHaveLength(1)
  expect(createCheck(BulkRequest)({ operations: list }, 'body').errors).toEqual([
    { field: 'operations', detail: expect.stringContaining('must be a list of 1 to 100') },
  ])
  expect(looks).toBe(0)
})
