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
    let refused = 0
    const flood = Array.from({ length: 520 }, async () => {
      const status = await statusOf(sendAndNotRead(server.origin, 'PATCH', toggle, greedy))
      if (status === 429) refused += 1
      return status
    })
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
    await eventually('all others are refused', async () => refused >= 19)
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
