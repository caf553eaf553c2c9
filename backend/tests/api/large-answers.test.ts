import { afterAll, describe, expect, test } from 'bun:test'
import { once } from 'node:events'
import { newUser, startApi, type TaskBody, writeUncounted } from '../support/api.ts'
import { sendAndNotRead } from '../support/greedy.ts'

const api = startApi()
afterAll(async () => api.stop())

/** A user whose list has this many characters besides what every task has. */
async function userWith(tasks: number, description: string) {
  const user = await newUser()
  // Without the check of every row, which takes seconds for thousands of them.
  await writeUncounted(`
    insert into todo_api.task_lists (user_id, counter, task_count)
    values ('${user.id}', ${tasks}, ${tasks});
    insert into todo_api.tasks (user_id, change, created_change, title, description)
    select '${user.id}', number, number, 'Task ' || number, '${description}'
    from generate_series(1, ${tasks}) number`)
  return user
}

describe('a large answer', () => {
  test.each(['a', 'ä', '錠', '😀', 'a😀'])('comes whole, made of %s', async (text) => {
    const description = text.repeat(1_000 / text.length).slice(0, 1_000)
    const user = await userWith(400, description)
    const listed = await api.request<TaskBody[]>('GET', '/api/tasks', user)
    expect(listed.status).toBe(200)
    expect(listed.headers.get('x-total-count')).toBe('400')
    expect(listed.headers.get('content-length')).toBeNull()
    expect(listed.text).not.toContain('\ufffd')
    expect(listed.body.map((task) => task.title)).toEqual(
      Array.from({ length: 400 }, (_, index) => `Task ${index + 1}`),
    )
    expect(new Set(listed.body.map((task) => task.description))).toEqual(new Set([description]))
    // It comes from memory, and is larger than its remembered size.
    await api.request('POST', '/api/tasks', { ...user, json: { title: 'One more' } })
    const again = await api.request<TaskBody[]>('GET', '/api/tasks', user)
    expect(again.body).toHaveLength(401)
    expect((await api.request('GET', '/api/tasks', user)).text).toBe(again.text)
    const tag = again.headers.get('etag')!
    const unchanged = await api.request('GET', '/api/tasks', {
      ...user,
      headers: { 'if-none-match': tag },
    })
    expect([unchanged.status, unchanged.text]).toEqual([304, ''])
    const head = await api.request('HEAD', '/api/tasks', user)
    expect([head.status, head.headers.get('etag')]).toEqual([200, tag])
    expect(head.headers.get('content-length')).toBe(String(Buffer.byteLength(again.text)))
  })

  test.each(['ä', '😀'])('comes whole in a dialect, made of %s', async (text) => {
    const user = await userWith(700, text.repeat(1_000 / text.length))
    const { body: all } = await api.request<TaskBody[]>('GET', '/api/tasks', user)
    const told = all.map((task) => ({
      ...task,
      is_completed: false,
      status: 'pending',
      priority: 'medium' as const,
    }))
    const read = async (path: string) => {
      const { headers, body } = await api.request('GET', `/compat/${path}`, user)
      expect(headers.get('content-length')).toBeNull()
      return body
    }
    expect(await read('array/tasks')).toEqual(told)
    expect(await read('tasks/tasks')).toEqual({ tasks: told, total: 700, count: 700 })
    expect(await read('items/tasks')).toMatchObject({ items: told, total: 700, offset: 0 })
    for (const [offset, limit] of [
      [0, 1],
      [0, 500],
      [350, 250],
      [600, 500],
      [699, 1],
      [700, 1],
    ] as const) {
      const query = `offset=${offset}&limit=${limit}`
      const part = told.slice(offset, offset + limit)
      const wrapped = `/compat/tasks/tasks?${query}`
      expect((await api.request('GET', wrapped, user)).body).toEqual({
        tasks: part,
        total: 700,
        count: part.length,
      })
      expect((await api.request('GET', `/compat/array/tasks?${query}`, user)).body).toEqual(part)
    }
    expect(await read('tasks/tasks/changes')).toMatchObject({ items: told.slice(0, 500) })
  })

  test('is what /changes and the trash give, too', async () => {
    const user = await userWith(300, 'x'.repeat(1_000))
    const changes = await api.request<{ items: TaskBody[] }>('GET', '/api/tasks/changes', user)
    expect([changes.status, changes.body.items.length]).toEqual([200, 300])
    expect(changes.headers.get('content-length')).toBeNull()
    await writeUncounted(
      `update todo_api.tasks set deleted_at = now() where user_id = '${user.id}'`,
    )
    const trash = await api.request<TaskBody[]>('GET', '/api/tasks/trash', user)
    expect([trash.status, trash.body.length]).toEqual([200, 300])
    expect(trash.headers.get('content-length')).toBeNull()
  })

  test('that shrinks counts as a small one again', async () => {
    const user = await userWith(300, 'x'.repeat(1_000))
    await api.request('GET', '/api/tasks', user)
    await writeUncounted(`delete from todo_api.tasks where user_id = '${user.id}' and id % 100 > 0`)
    const { headers, body } = await api.request<TaskBody[]>('GET', '/api/tasks?sort=title', user)
    expect(body).toHaveLength(3)
    expect(headers.get('content-length')).not.toBeNull()
  })

  test('that nobody reads, or that is read to its end, leaves room for as many as come', async () => {
    // 5 MB each: if none were given back, there would be room for five.
    const user = await userWith(4_000, 'x'.repeat(1_000))
    for (let times = 0; times < 8; times += 1) {
      const stop = new AbortController()
      const response = await fetch(`${api.origin}/api/tasks`, {
        headers: { authorization: `Bearer ${user.token}` },
        signal: stop.signal,
      })
      expect(response.status).toBe(200)
      if (times % 2 === 0) stop.abort()
      else expect(await response.json()).toHaveLength(4_000)
    }
    expect((await api.request('HEAD', '/api/tasks', user)).status).toBe(200)
  })

  // Under a dialect it is translated as it is read, so no more of it is held.
  test.concurrent.each(['/api/tasks', '/compat/tasks/api/tasks'])(
    'of %s has to wait for those that its user leaves unread, and then it is theirs: 429',
    async (path) => {
      const user = await userWith(7_000, 'ä'.repeat(1_000)) // 16 MB, of 24 that one user may have
      expect((await api.request('GET', path, user)).status).toBe(200) // how large it is
      const unread = sendAndNotRead(api.origin, 'GET', path, user)
      await once(unread, 'readable')
      const answers = await Promise.all(
        Array.from({ length: 3 }, async () => api.request('GET', path, user)),
      )
      unread.destroy()
      expect(answers.map(({ status }) => status)).toEqual([429, 429, 429])
      expect(answers[0]!.headers.get('retry-after')).toBe('1')
      expect(answers[0]!.body).toMatchObject({ code: 'rate_limited' })
      const small = await api.request('GET', `${path}?limit=1`, user)
      expect(small.status).toBe(200)
    },
  )
})
