import { afterAll, describe, expect, test } from 'bun:test'
import { startProxy } from '../support/proxy.ts'
import { createRandom } from '../support/random.ts'
import { newUser, type TaskBody } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { openEvents } from '../support/events.ts'
import { followEvents } from '../support/follower.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
afterAll(async () => postgres.close())

type User = { id: string; token: string }
type Server = Awaited<ReturnType<typeof startServer>>
type Page = { items: TaskBody[]; deleted: { id: number }[]; sync_token: string; has_more: boolean }

/** Keeps a copy by asking for changes, page by page. */
function followChanges(user: User, serverOf: () => Server) {
  const copy = new Map<number, TaskBody>()
  let token: string | undefined
  return {
    copy,
    async step(limit: number): Promise<boolean> {
      const query = new URLSearchParams({ limit: String(limit), ...(token && { since: token }) })
      const { status, body } = await serverOf().request<Page>(
        'GET',
        `/api/tasks/changes?${query.toString()}`,
        user,
      )
      if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
      for (const task of body.items) copy.set(task.id, task)
      for (const { id } of body.deleted) copy.delete(id)
      token = body.sync_token
      return body.has_more
    },
  }
}

/** One client that writes at random, to either server; an answer that is lost is not asked again. */
async function writeAtRandom(
  user: User,
  serverOf: (pick: number) => Server,
  seed: number,
  steps: number,
) {
  const next = createRandom(seed)
  for (let step = 0; step < steps; step += 1) {
    const { request } = serverOf(next(2))
    const { token } = user
    try {
      const list = (await request<TaskBody[]>('GET', '/api/tasks', { token })).body
      const trash = (await request<TaskBody[]>('GET', '/api/tasks/trash', { token })).body
      const task = list[next(Math.max(list.length, 1))]
      const trashed = trash[next(Math.max(trash.length, 1))]
      const what = next(10)
      if (what < 4 || !task)
        await request('POST', '/api/tasks', { token, json: { title: `Step ${step} of ${seed}` } })
      else if (what < 6) await request('PATCH', `/api/tasks/${task.id}/complete`, { token })
      else if (what < 7)
        await request('PUT', `/api/tasks/${task.id}`, { token, json: { title: `Changed ${step}` } })
      else if (what < 8) await request('DELETE', `/api/tasks/${task.id}`, { token })
      else if (what < 9)
        await request('DELETE', `/api/tasks/${(trashed ?? task).id}?permanent=true`, { token })
      else if (trashed) await request('POST', `/api/tasks/${trashed.id}/restore`, { token })
    } catch {
      // The server was killed under the request.
    }
  }
}

const byId = (tasks: Iterable<TaskBody>) => [...tasks].toSorted((a, b) => a.id - b.id)

async function expectSame(
  user: User,
  server: Server,
  followers: { copy: Map<number, TaskBody> }[],
) {
  const { body } = await server.request<TaskBody[]>('GET', '/api/tasks', user)
  const list = byId(body)
  for (const { copy } of followers)
    await eventually('the copy is the list', async () => Bun.deepEquals(byId(copy.values()), list))
  return list
}

describe('followers', () => {
  test('of random writes at two servers, cut off at random, all end with the list', async () => {
    const seed = Date.now() % 1_000_000
    process.stdout.write(`seed ${seed}\n`)
    const servers = await Promise.all([startServer(url), startServer(url)])
    const serverOf = (pick: number) => servers[pick % 2]!
    const users = await Promise.all([newUser(), newUser()])
    const next = createRandom(seed)
    const followers = users.flatMap((user) =>
      [0, 1, 2].map((number) => ({
        user,
        ...followEvents(user, () => serverOf(number + next(2)).origin),
      })),
    )
    const readers = users.map((user) => ({ user, ...followChanges(user, () => serverOf(next(2))) }))
    let isWriting = true
    const disturbing = (async () => {
      while (isWriting) {
        followers[next(followers.length)]!.cutOff()
        for (const reader of readers) await reader.step(1 + next(5))
        await Bun.sleep(next(60))
      }
    })()
    await Promise.all(
      users.flatMap((user, index) =>
        [1, 2, 3].map(async (client) =>
          writeAtRandom(user, serverOf, seed + index * 10 + client, 60),
        ),
      ),
    )
    isWriting = false
    await disturbing
    for (const reader of readers) while (await reader.step(50));
    for (const user of users) {
      const list = await expectSame(
        user,
        serverOf(0),
        [...followers, ...readers].filter((follower) => follower.user === user),
      )
      expect(list.length).toBeGreaterThan(0)
    }
    expect(followers.flatMap(({ problems }) => problems)).toEqual([])
    await Promise.all(followers.map(async (follower) => follower.end()))
    await Promise.all(servers.map(async (server) => server.end()))
  })

  test('of a server that is killed under load go on at another, and lose nothing', async () => {
    const [killed, other] = await Promise.all([startServer(url), startServer(url)])
    let current = killed
    const user = await newUser()
    const followers = [1, 2, 3].map(() => followEvents(user, () => current.origin))
    const writing = [1, 2, 3].map(async (seed) =>
      writeAtRandom(user, (pick) => (pick === 0 ? current : other), seed, 60),
    )
    await eventually('events arrive', async () => followers.every(({ last }) => last() > 20))
    await killed.end('SIGKILL')
    current = other
    await Promise.all(writing)
    await expectSame(user, other, followers)
    expect(followers.flatMap(({ problems }) => problems)).toEqual([])
    await Promise.all(followers.map(async (follower) => follower.end()))
    await other.end()
  })

  test('go on after the database was restarted under their streams', async () => {
    const servers = await Promise.all([startServer(url), startServer(url)])
    const user = await newUser()
    const streams = await Promise.all(
      servers.map(async (server) =>
        openEvents(`${server.origin}/api/tasks/events`, { authorization: `Bearer ${user.token}` }),
      ),
    )
    const create = async (title: string) =>
      eventually('a task is created', async () => {
        const { status } = await servers[0].request('POST', '/api/tasks', {
          token: user.token,
          json: { title },
        })
        return status === 201
      })
    await create('before')
    for (const stream of streams) await stream.received(1)
    await postgres.stop()
    await postgres.start()
    await create('after')
    for (const stream of streams) {
      await stream.received(2)
      expect(stream.events.map(({ data }) => (data as TaskBody).title)).toEqual(['before', 'after'])
      stream.close()
    }
    expect(await Promise.all(servers.map(async (server) => server.end()))).toEqual([0, 0])
  })
})

describe('events of another process', () => {
  test('come at once again after a crash of the database, and on a line that went dead', async () => {
    const proxy = await startProxy(postgres.port)
    const far = databaseUrl(proxy, 'sslmode=require')
    const [first, second] = await Promise.all([startServer(url), startServer(far)])
    const user = await newUser()
    const stream = await openEvents(`${second.origin}/api/tasks/events`, {
      authorization: `Bearer ${user.token}`,
    })
    const isOneHeardAtOnce = async () => {
      const options = { token: user.token, json: { title: 'news' } }
      const { status, body } = await first.request<TaskBody>('POST', '/api/tasks', options)
      if (status !== 201) return false
      await Bun.sleep(200)
      return stream.events.some(({ data }) => (data as TaskBody).id === body.id)
    }
    // Three in a row, since a look for changes may find one.
    const isHeardAtOnce = async () =>
      (await isOneHeardAtOnce()) && (await isOneHeardAtOnce()) && (await isOneHeardAtOnce())
    await eventually('it listens', isHeardAtOnce)
    await postgres.crash()
    await eventually('it listens after a crash', isHeardAtOnce)
    // Connections that are there hear and say nothing any more; new ones work.
    proxy.become('silent')
    proxy.become('clear')
    await eventually('it listens on another line', isHeardAtOnce, 20_000)
    stream.close()
    expect(await Promise.all([first, second].map(async (server) => server.end()))).toEqual([0, 0])
    proxy.close()
  })

  async function delay(first: Server, second: Server): Promise<number> {
    const user = await newUser()
    const stream = await openEvents(`${second.origin}/api/tasks/events`, {
      authorization: `Bearer ${user.token}`,
    })
    // The first event proves the way; what the next one takes is measured.
    await first.request('POST', '/api/tasks', { token: user.token, json: { title: 'first' } })
    await stream.received(1)
    await Bun.sleep(100)
    const started = performance.now()
    await first.request('POST', '/api/tasks', { token: user.token, json: { title: 'second' } })
    await stream.received(2)
    stream.close()
    return performance.now() - started
  }

  test('come at once over a direct connection, and within two seconds through a pooler alone', async () => {
    const pooler = await startPgBouncer(postgres)
    const pooled = databaseUrl(pooler, 'sslmode=require&prepare=false')
    const [direct, beside, alone] = await Promise.all([
      startServer(url),
      startServer(pooled, { DATABASE_URL_UNPOOLED: url }),
      startServer(pooled),
    ])
    expect(await delay(direct, beside)).toBeLessThan(1_000)
    expect(await delay(alone, direct)).toBeLessThan(1_000)
    expect(await delay(direct, alone)).toBeLessThan(4_000)
    await Promise.all([direct, beside, alone].map(async (server) => server.end()))
    await pooler.close()
  })
})
