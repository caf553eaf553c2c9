import { afterAll, expect, test } from 'bun:test'
import { startProxy } from '../support/proxy.ts'
import { newUser } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'
import { startStandby } from '../support/standby.ts'

const primary = await startPostgres()
const standby = await startStandby(primary)
afterAll(async () => {
  await standby.close()
  await primary.close()
})

/** A server on the primary, and ways to ask it. */
async function startBehind(proxy: { port: number }) {
  const server = await startServer(databaseUrl(proxy, 'sslmode=require'))
  const { token } = await newUser()
  const write = async () =>
    (await server.request('POST', '/api/tasks', { token, json: { title: 'Written' } })).status
  const read = async () => (await server.request('GET', '/api/tasks', { token })).status
  const ready = async () => (await server.request('GET', '/ready')).status
  return { ...server, write, read, ready }
}

test('a server goes on writing after its database only read for a while', async () => {
  const proxy = await startProxy(primary.port)
  const server = await startBehind(proxy)
  let isWriting = true
  async function keepWriting(): Promise<void> {
    while (isWriting) await server.write()
  }
  const writers = [1, 2, 3, 4].map(keepWriting)
  expect(await server.ready()).toBe(200)

  proxy.leadTo(standby.port)
  proxy.reset()
  await eventually('reads are answered and writes are not', async () => {
    return (await server.read()) === 200 && (await server.write()) === 503
  })
  expect(await server.ready()).toBe(503)

  proxy.leadTo(primary.port)
  await eventually('a write is done', async () => (await server.write()) === 201, 3_000)
  await eventually(
    'all connections write',
    async () => {
      const statuses = await Promise.all(Array.from({ length: 30 }, server.write))
      return statuses.every((status) => status === 201)
    },
    3_000,
  )
  expect(await server.ready()).toBe(200)
  isWriting = false
  await Promise.all(writers)
  await server.end()
  proxy.close()
})

test('a server that gets no requests because it is not ready becomes ready again', async () => {
  const proxy = await startProxy(primary.port)
  const server = await startBehind(proxy)
  proxy.leadTo(standby.port)
  proxy.reset()
  await eventually('it is unready', async () => (await server.ready()) === 503)
  proxy.leadTo(primary.port)
  await eventually('it is ready', async () => (await server.ready()) === 200, 3_000)
  expect(await server.write()).toBe(201)
  await server.end()
  proxy.close()
})
