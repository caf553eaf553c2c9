import { treaty } from '@elysiajs/eden'
import { afterAll, expect, expectTypeOf, test } from 'bun:test'
import type { App } from '../../app.ts'
import type { Task } from '../../tasks/schemas.ts'
import { newUser, startApi } from '../support/api.ts'

const server = startApi()
afterAll(server.stop)

test('an Eden client gets a typed task and typed errors', async () => {
  const { token } = await newUser()
  const { api } = treaty<App>(server.origin, { headers: { authorization: `Bearer ${token}` } })

  const created = await api.tasks.post({ title: 'Typed', description: null })
  expectTypeOf(created.data).toEqualTypeOf<Task | null>()
  if (created.error) throw new Error(created.error.value.detail)
  expectTypeOf(created.data).toEqualTypeOf<Task>()
  expect(created.data).toMatchObject({ title: 'Typed', description: null, completed: false })

  const { id } = created.data
  const listed = await api.tasks.get({ query: { status: 'pending' } })
  expectTypeOf(listed.data).toEqualTypeOf<Task[] | null>()
  expect(listed.data).toEqual([created.data])

  const changed = await api.tasks({ id: String(id) }).put({ completed: true })
  expect(changed.data).toMatchObject({ id, completed: true })
  const toggled = await api.tasks({ id: String(id) }).complete.patch()
  expect(toggled.data).toMatchObject({ id, completed: false })

  const refused = await api.tasks.post({ title: '' })
  if (!refused.error) throw new Error('An empty title was taken')
  if (refused.error.status === 422) {
    const { value } = refused.error
    expectTypeOf(value.code).toEqualTypeOf<
      'malformed_json' | 'validation_failed' | 'idempotency_key_reused'
    >()
    expectTypeOf(value.errors).toEqualTypeOf<{ field: string; detail: string }[]>()
    expect(value).toMatchObject({ code: 'validation_failed', errors: [{ field: 'title' }] })
  }
  expect(refused.error.status).toBe(422)

  const missing = await api.tasks({ id: '9007199254740991' }).get()
  if (missing.error?.status === 404)
    expectTypeOf(missing.error.value.code).toEqualTypeOf<'task_not_found'>()
  expect(missing.error?.value).toMatchObject({ code: 'task_not_found' })

  // @ts-expect-error -- a title is text
  expect((await api.tasks.post({ title: 1 })).status).toBe(422)
  // @ts-expect-error -- there is no such status
  expect((await api.tasks.get({ query: { status: 'done' } })).status).toBe(422)
})
