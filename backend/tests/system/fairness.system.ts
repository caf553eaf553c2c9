import { afterAll, describe, expect, test } from 'bun:test'
import { newUser, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { fillList, mostMemoryOf, sendAndNotRead, statusOf } from '../support/greedy.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
afterAll(async () => postgres.close())

describe('a user whose writes all wait for one row', () => {
  test('leaves connections to the others, and has so many waiting at most', async () => {
    const server = await startServer(url)
    const [greedy, modest] = [await newUser(), await newUser()]
    const { body: task } = await server.request<TaskBody>('POST', '/api/tasks', {
      ...greedy,
      json: { title: 'Locked' },
    })
    const release = await postgres.hold(
      `select from todo_api.tasks where id = ${task.id} for update`,
    )
    const toggle = `/api/tasks/${task.id}/complete`
    const flood = Array.from({ length: 520 }, async () =>
      statusOf(sendAndNotRead(server.origin, 'PATCH', toggle, greedy)),
    )
    await eventually('one of them waits', async () => (await postgres.waiting()) === 1)
    expect(await Promise.race(flood)).toBe(429)
    for (let times = 0; times < 20; times += 1) {
      const created = await server.request('POST', '/api/tasks', {
        ...modest,
        json: { title: 'Mine' },
      })
      expect(created.status).toBe(201)
    }
    expect(await postgres.waiting()).toBe(1)
    await release()
    const statuses = Map.groupBy(await Promise.all(flood), (status) => status)
    expect(new Set(statuses.keys())).toEqual(new Set([200, 429]))
    expect(statuses.get(429)!.length).toBeGreaterThanOrEqual(19)
    await server.end()
  })

  test('past the deadline they are 503, and nothing of them happens later', async () => {
    const server = await startServer(url)
    const greedy = await newUser()
    const { body: task } = await server.request<TaskBody>('POST', '/api/tasks', {
      ...greedy,
      json: { title: 'Locked' },
    })
    const release = await postgres.hold(
      `select from todo_api.tasks where id = ${task.id} for update`,
    )
    const flood = Array.from({ length: 40 }, async () =>
      server.request('PATCH', `/api/tasks/${task.id}/complete`, greedy),
    )
    for (const { status, body } of await Promise.all(flood)) {
      expect(status).toBe(503)
      expect(body).toMatchObject({ code: 'database_unavailable' })
    }
    await eventually('all are cancelled', async () => (await postgres.waiting()) === 0)
    await release()
    const { body: later } = await server.request<TaskBody>('GET', `/api/tasks/${task.id}`, greedy)
    expect(later).toMatchObject({ completed: false, version: 1 })
    await server.end()
  })
})

describe('lists as long as they can be', () => {
  test('keep nobody waiting and fill no memory, read or not', async () => {
    const server = await startServer(url)
    const greedy = await newUser()
    await fillList(postgres.admin, greedy.id, 10_000)
    const sockets = Array.from({ length: 8 }, () =>
      sendAndNotRead(server.origin, 'GET', '/api/tasks', greedy),
    )
    let isOver = false
    const reads = Array.from({ length: 10 }, async () => {
      while (!isOver) await server.request('GET', '/api/tasks', greedy)
    })
    const modest = Array.from({ length: 12 }, async () => {
      const user = await newUser()
      const statuses = []
      const began = performance.now()
      while (performance.now() - began < 8_000) {
        const json = { title: 'Mine' }
        statuses.push((await server.request('POST', '/api/tasks', { ...user, json })).status)
        statuses.push((await server.request('GET', '/api/tasks', user)).status)
        await Bun.sleep(50)
      }
      return statuses
    })
    const answers = (await Promise.all(modest)).flat()
    isOver = true
    await Promise.all(reads)
    for (const socket of sockets) socket.destroy()
    expect(answers.filter((status) => status >= 400)).toEqual([])
    expect(await mostMemoryOf(server.pid)).toBeLessThan(700)
    await server.end()
  }, 60_000)
})

test('a user who asks for all that one user can, many at a time, takes nothing from the others', async () => {
  const server = await startServer(url, { MAX_TASKS_PER_USER: '1000000' })
  const greedy = await newUser()
  await fillList(postgres.admin, greedy.id, 1_000)
  let isOver = false
  const answered = new Set<number>()
  async function keep(method: string, path: string, json?: object): Promise<void> {
    while (!isOver) {
      const asked = { token: greedy.token, ...(json && { json }) }
      const { status } = await server.request(method, path, asked)
      answered.add(status)
      if (status >= 400) await Bun.sleep(50)
    }
  }
  const lists = ['/api/tasks', '/api/tasks?sort=-title', '/api/tasks?q=😀', '/api/tasks/changes']
  const greed = [
    ...Array.from({ length: 10 }, async (_, index) => keep('GET', lists[index % lists.length]!)),
    ...Array.from({ length: 40 }, async () => keep('POST', '/api/tasks', { title: 'More' })),
  ]
  const unread = Array.from({ length: 8 }, () =>
    sendAndNotRead(server.origin, 'GET', '/api/tasks', greedy),
  )
  const modest = Array.from({ length: 12 }, async () => {
    const user = await newUser()
    const statuses: number[] = []
    async function ask(method: string, path: string, json?: object) {
      const asked = { token: user.token, ...(json && { json }) }
      const { status, body } = await server.request<TaskBody>(method, `/api/tasks${path}`, asked)
      statuses.push(status)
      return body
    }
    for (let round = 0; round < 10; round += 1) {
      // So long that the list comes to be a large answer.
      const { id } = await ask('POST', '', { title: 'Mine', description: 'x'.repeat(1_000) })
      await ask('PATCH', `/${id}/complete`)
      for (const path of [`/${id}`, '', '/changes']) await ask('GET', path)
    }
    return statuses
  })
  const answers = (await Promise.all(modest)).flat()
  isOver = true
  await Promise.all(greed)
  for (const socket of unread) socket.destroy()
  expect(answers.filter((status) => status >= 400)).toEqual([])
  expect([...answered].filter((status) => ![200, 201, 429, 503].includes(status))).toEqual([])
  expect(await mostMemoryOf(server.pid)).toBeLessThan(700)
  await server.end()
})
