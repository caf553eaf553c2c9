import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as OldTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { afterAll, describe, expect, test } from 'bun:test'
import { DatabaseUnavailable } from '../../db/failures.ts'
import {
  databaseThat,
  frontEnd,
  newUser,
  rowsOf,
  startApi,
  tokenFor,
  type TaskBody,
} from '../support/api.ts'
import { messageOf, speakMcp } from '../support/mcp.ts'
import { everythingOf } from '../support/rows.ts'

const api = startApi()
const elsewhere = startApi()
afterAll(async () => {
  await Promise.all([api.stop(), elsewhere.stop()])
})

const all = [
  'list_tasks',
  'get_task',
  'add_task',
  'update_task',
  'complete_task',
  'delete_task',
  'restore_task',
]
const eras = ['modern', 'legacy'] as const

async function newAgent(over: Pick<typeof api, 'request'> = api) {
  const user = await newUser()
  return { ...user, ...speakMcp(over, user.token) }
}

async function makeKey(token: string, scope: string) {
  const { body } = await api.request<{ id: number; key: string }>('POST', '/api/keys', {
    token,
    json: { name: 'agent', scope },
  })
  return body
}

type Tool = {
  name: string
  description: string
  inputSchema: { type: string; properties: Record<string, object>; required?: string[] }
  annotations: Record<string, boolean>
}

describe('clients', () => {
  const options = (key: string) => ({
    requestInit: { headers: { authorization: `Bearer ${key}` } },
  })
  const address = new URL(`${api.origin}/mcp`)
  const info = { name: 'tests', version: '1' }
  const connect = {
    'of this revision': async (key: string) => {
      const client = new Client(info, { versionNegotiation: { mode: { pin: '2026-07-28' } } })
      await client.connect(new StreamableHTTPClientTransport(address, options(key)))
      return client
    },
    'that find out': async (key: string) => {
      const client = new Client(info, { versionNegotiation: { mode: 'auto' } })
      await client.connect(new StreamableHTTPClientTransport(address, options(key)))
      return client
    },
    'of this SDK that begin with initialize': async (key: string) => {
      const client = new Client(info)
      await client.connect(new StreamableHTTPClientTransport(address, options(key)))
      return client
    },
    'of the SDK before': async (key: string) => {
      const client = new OldClient(info)
      await client.connect(new OldTransport(address, options(key)))
      return client
    },
  }

  test.each(Object.entries(connect))('%s manage a user’s tasks', async (_, open) => {
    const user = await newUser()
    const { key } = await makeKey(user.token, 'write')
    const client = await open(key)
    const { tools } = await client.listTools()
    expect(tools.map(({ name }) => name)).toEqual(all)
    expect(client.getServerVersion()).toMatchObject({ name: 'todo-api' })
    expect(client.getInstructions()).toContain('tasks')

    type Result = { structuredContent: Record<string, unknown>; isError?: boolean }
    const call = async (name: string, args: Record<string, unknown>) =>
      (await client.callTool({ name, arguments: args })) as unknown as Result
    const { structuredContent: added } = await call('add_task', { title: 'Buy milk' })
    expect(await rowsOf(user.id)).toMatchObject([{ title: 'Buy milk' }])
    const id = added['id'] as number
    expect((await call('list_tasks', {})).structuredContent).toEqual({ tasks: [added], total: 1 })
    const { structuredContent: changed } = await call('update_task', { id, priority: 'high' })
    expect(changed).toMatchObject({ title: 'Buy milk', priority: 'high', version: 2 })
    expect((await call('complete_task', { id })).structuredContent).toMatchObject({
      completed: true,
    })
    expect((await call('delete_task', { id })).structuredContent).toEqual({ id, deleted: true })
    expect(await call('get_task', { id })).toMatchObject({
      isError: true,
      structuredContent: { code: 'task_not_found' },
    })
    expect((await call('restore_task', { id })).structuredContent).toMatchObject({ id })
    await client.close()
  })
})

describe('tools', () => {
  test.each(eras)('are told in one order, with what they do (%s)', async (era) => {
    const { ask } = await newAgent()
    const { body } = await ask('tools/list', {}, era)
    const tools = body.result!['tools'] as Tool[]
    expect(tools.map(({ name }) => name)).toEqual(all)
    expect(
      tools.map(({ name, annotations }) => [
        name,
        annotations['readOnlyHint'],
        annotations['destructiveHint'],
        annotations['idempotentHint'],
        annotations['openWorldHint'],
      ]),
    ).toEqual([
      ['list_tasks', true, false, true, false],
      ['get_task', true, false, true, false],
      ['add_task', false, false, false, false],
      ['update_task', false, false, true, false],
      ['complete_task', false, false, true, false],
      ['delete_task', false, true, true, false],
      ['restore_task', false, false, true, false],
    ])
    for (const { inputSchema } of tools) {
      expect(inputSchema.type).toBe('object')
      expect(JSON.stringify(inputSchema)).not.toMatch(/user_id|additionalProperties/)
    }
    const properties = Object.fromEntries(
      tools.map(({ name, inputSchema }) => [name, Object.keys(inputSchema.properties)]),
    )
    expect(properties['list_tasks']).toEqual(
      'status q tag priority overdue sort limit cursor'.split(' '),
    )
    expect(properties['get_task']).toEqual(['id'])
    expect(properties['add_task']).toContainValues(['title', 'tags', 'idempotency_key'])
    expect(properties['update_task']).toContainValues(['id', 'title', 'due_date', 'if_version'])
    expect(properties['complete_task']).toEqual(['id', 'completed'])
  })

  test('a key that reads sees two of them, and may call no other', async () => {
    const user = await newUser()
    const { key } = await makeKey(user.token, 'read')
    const owner = speakMcp(api, user.token)
    const { structuredContent: task } = await owner.call('add_task', { title: 'x' })
    const before = await everythingOf(user.id)
    const { ask, call } = speakMcp(api, key)
    for (const era of eras) {
      const { body } = await ask('tools/list', {}, era)
      expect((body.result!['tools'] as Tool[]).map(({ name }) => name)).toEqual(all.slice(0, 2))
      expect((await call('get_task', { id: task['id'] }, era)).structuredContent).toEqual(task)
      for (const name of all.slice(2)) {
        const answer = await ask('tools/call', { name, arguments: { id: task['id'] } }, era)
        expect([answer.status, answer.body]).toMatchObject([403, { code: 'insufficient_scope' }])
        expect(answer.headers.get('www-authenticate')).toBe(
          'Bearer error="insufficient_scope", scope="tasks:write"',
        )
      }
    }
    expect(await everythingOf(user.id)).toBe(before)
  })

  test('list_tasks filters, sorts and gives page after page', async () => {
    const { call } = await newAgent()
    for (const title of ['Milk', 'Bread', 'Salt'])
      await call('add_task', { title, tags: ['food'], priority: title === 'Salt' ? 'high' : 'low' })
    await call('add_task', { title: 'Late', due_date: '2020-01-01', tags: ['food', 'old'] })
    const titles = async (args: object) => {
      const { structuredContent } = await call('list_tasks', args)
      return (structuredContent['tasks'] as TaskBody[]).map(({ title }) => title)
    }
    expect(await titles({ priority: 'high' })).toEqual(['Salt'])
    expect(await titles({ q: 'read' })).toEqual(['Bread'])
    expect(await titles({ tag: 'old' })).toEqual(['Late'])
    expect(await titles({ tag: ['old', 'food'] })).toEqual(['Late'])
    expect(await titles({ overdue: true })).toEqual(['Late'])
    expect(await titles({ status: 'COMPLETED', q: '' })).toEqual([])
    expect(await titles({ sort: 'title' })).toEqual(['Bread', 'Late', 'Milk', 'Salt'])

    const seen: string[] = []
    let cursor: unknown
    do {
      const asked = { sort: '-created', limit: 3, ...(cursor !== undefined && { cursor }) }
      const { structuredContent } = await call('list_tasks', asked)
      expect(structuredContent['total']).toBe(4)
      seen.push(...(structuredContent['tasks'] as TaskBody[]).map(({ title }) => title))
      cursor = structuredContent['next_cursor']
    } while (cursor !== undefined)
    expect(seen).toEqual(['Late', 'Salt', 'Bread', 'Milk'])
  })

  test('list_tasks understands what lists over HTTP do, in every spelling', async () => {
    const { call } = await newAgent()
    await call('add_task', { title: 'Milk', due_date: '2030-05-17' })
    const { structuredContent: bread } = await call('add_task', { title: 'Bread' })
    await call('complete_task', { id: bread['id'] })
    const titles = async (args: object) => {
      const { structuredContent } = await call('list_tasks', args)
      return (structuredContent['tasks'] as TaskBody[]).map(({ title }) => title)
    }
    expect(await titles({ search: 'read' })).toEqual(['Bread'])
    for (const completed of [true, 'true']) expect(await titles({ completed })).toEqual(['Bread'])
    for (const completed of [false, 'false']) expect(await titles({ completed })).toEqual(['Milk'])
    for (const order of ['desc', 'DESC']) expect(await titles({ order })).toEqual(['Bread', 'Milk'])
    expect(await titles({ sort: 'created_at', order: 'asc' })).toEqual(['Milk', 'Bread'])
    expect(await titles({ due_from: '2030-05-17', due_to: '2030-05-17' })).toEqual(['Milk'])
    expect(await titles({ due_to: '2030-05-16' })).toEqual([])
    expect(await titles({ overdue: 'false', tz: 'Europe/Paris' })).toEqual(['Milk', 'Bread'])
  })

  test.each(['offset', 'skip', 'page'])('list_tasks refuses %s, and names cursor', async (name) => {
    const { call } = await newAgent()
    for (const value of [0, 2, '2', null])
      expect((await call('list_tasks', { [name]: value })).structuredContent).toEqual({
        detail: `${name}: must not be sent: page with cursor, from next_cursor`,
        code: 'validation_failed',
      })
    expect((await call('list_tasks', { [name]: '' })).isError).toBe(undefined)
  })

  test('list_tasks gives 50 if nothing is said, and 100 at most', async () => {
    const { call, token } = await newAgent()
    for (const count of [100, 1]) {
      const operations = Array.from({ length: count }, () => ({
        op: 'create',
        data: { title: 'x' },
      }))
      await api.request('POST', '/api/tasks/bulk', { token, json: { operations } })
    }
    const countOf = async (args: object) =>
      ((await call('list_tasks', args)).structuredContent['tasks'] as object[]).length
    expect(await countOf({})).toBe(50)
    expect(await countOf({ limit: 100 })).toBe(100)
    expect(await call('list_tasks', { limit: 101 })).toMatchObject({
      isError: true,
      structuredContent: { code: 'validation_failed' },
    })
  })

  test.each(eras)('a large page comes whole, as large answers do (%s)', async (era) => {
    const { call, ask, token } = await newAgent()
    // Each of these has eight bytes in the text of the answer.
    const data = { title: 'x', description: '"\\'.repeat(500) }
    for (let count = 0; count < 2; count += 1) {
      const operations = Array.from({ length: 50 }, () => ({ op: 'create', data }))
      await api.request('POST', '/api/tasks/bulk', { token, json: { operations } })
    }
    for (let count = 0; count < 3; count += 1) {
      const { structuredContent } = await call('list_tasks', { limit: 100 }, era)
      const tasks = structuredContent['tasks'] as TaskBody[]
      expect(tasks).toHaveLength(100)
      for (const { description } of tasks) expect(description).toBe(data.description)
    }
    const called = { name: 'list_tasks', arguments: { limit: 100 } }
    const { headers, body } = await ask('tools/call', called, era)
    // It is sent as it is read: see http/answers.ts.
    expect(headers.get('content-length')).toBeNull()
    expect(body.result).not.toHaveProperty('isError')
    // A small answer does not wait for room.
    expect((await call('list_tasks', { limit: 1 }, era)).isError).toBe(undefined)
  })

  test('a repeated add_task under its key adds one task, from HTTP too', async () => {
    const { call, token, id } = await newAgent()
    const task = { title: 'Once', tags: ['x'] }
    const add = async (more: object = {}) =>
      call('add_task', { ...task, idempotency_key: 'mine', ...more })
    const results = await Promise.all([add(), add(), add()])
    const done = results.filter(({ isError }) => !isError)
    expect(done.length).toBeGreaterThan(0)
    expect((await add()).structuredContent).toEqual(done[0]!.structuredContent)
    const over = await api.request('POST', '/api/tasks', {
      token,
      json: task,
      headers: { 'idempotency-key': 'mine' },
    })
    expect([over.status, over.body]).toEqual([201, done[0]!.structuredContent])
    expect(await add({ title: 'Other' })).toMatchObject({
      isError: true,
      structuredContent: { code: 'idempotency_key_reused' },
    })
    expect(await rowsOf(id)).toHaveLength(1)
  })

  test('a refusal names the argument, and no path or header of HTTP', async () => {
    const { call, token } = await newAgent()
    const details: unknown[] = []
    const refused = async (name: string, args: object) => {
      const { isError, structuredContent } = await call(name, args)
      expect(isError).toBe(true)
      details.push(structuredContent['detail'])
      return structuredContent
    }
    const idempotency_key = crypto.randomUUID()
    await call('add_task', { title: 'One', idempotency_key })
    expect(await refused('add_task', { title: 'Other', idempotency_key })).toEqual({
      detail: 'idempotency_key: was used for another request',
      code: 'idempotency_key_reused',
    })
    expect(await refused('add_task', { title: 'x', idempotency_key: '""' })).toMatchObject({
      detail: expect.stringMatching(/^idempotency_key: must be/),
    })
    expect(await refused('get_task', { id: 1, user_id: 'somebody' })).toEqual({
      detail: 'user_id names another user than the key or token; leave it out',
      code: 'wrong_user',
    })
    const overHttp = await api.request('POST', '/api/tasks', {
      token,
      json: { title: 'Other' },
      headers: { 'idempotency-key': idempotency_key },
    })
    expect(overHttp.body).toMatchObject({ errors: [{ field: 'Idempotency-Key' }] })
    expect(details.join()).not.toMatch(/path|header|Idempotency-Key/)
  })

  test('know recurrence and reminders, each by one name', async () => {
    const { ask, call } = await newAgent()
    const { body } = await ask('tools/list')
    const told = JSON.stringify(body.result)
    expect(told).toContain('"recurrence"')
    expect(told).toContain('"reminders"')
    expect(told).not.toMatch(/recurrence_rule|recurrence_pattern|reminder_at/)
    const { structuredContent: task } = await call('add_task', {
      title: 'Water the plants',
      due_date: '2030-01-31',
      due_time: '09:00',
      due_timezone: 'UTC',
      recurrence: 'daily',
      reminders: [{ minutes_before: 10 }],
    })
    expect(task).toMatchObject({ recurrence: 'FREQ=DAILY', reminders: [{ minutes_before: 10 }] })
    const done = await call('complete_task', { id: task['id'] })
    const next = await call('get_task', { id: done.structuredContent['next_task_id'] })
    expect(next.structuredContent).toMatchObject({ due_date: '2030-02-01', completed: false })
    const { structuredContent: ended } = await call('update_task', {
      id: next.structuredContent['id'],
      recurrence: null,
    })
    expect(ended).toMatchObject({ recurrence: null })
    expect(await call('add_task', { title: 'x', recurrence: 'daily' })).toMatchObject({
      isError: true,
      structuredContent: { code: 'validation_failed' },
    })
  })

  test('update_task of another version changes nothing, and gives the task as it is', async () => {
    const { call } = await newAgent()
    const { structuredContent: task } = await call('add_task', { title: 'One' })
    const { id } = task
    await call('update_task', { id, title: 'Two', if_version: 1 })
    const refused = await call('update_task', { id, title: 'Three', if_version: 1 })
    expect(refused.isError).toBe(true)
    expect(refused.structuredContent).toEqual({
      detail: 'The task has been changed since you read it; see current',
      code: 'version_conflict',
      current: (await call('get_task', { id })).structuredContent,
    })
    expect((await call('update_task', { id, description: null, due_date: null })).isError).toBe(
      undefined,
    )
  })

  test('complete_task sets and never toggles', async () => {
    const { call } = await newAgent()
    const { id } = (await call('add_task', { title: 'x' })).structuredContent
    for (const [args, completed] of [
      [{}, true],
      [{}, true],
      [{ completed: false }, false],
      [{ completed: false }, false],
    ] as const)
      expect((await call('complete_task', { id, ...args })).structuredContent).toMatchObject({
        completed,
      })
  })

  test('delete_task is to the trash, and again is no error', async () => {
    const [alice, bob] = [await newAgent(), await newAgent()]
    const { id } = (await alice.call('add_task', { title: 'x' })).structuredContent
    for (let count = 0; count < 2; count += 1)
      expect(await alice.call('delete_task', { id })).toMatchObject({
        structuredContent: { id, deleted: true },
      })
    const trash = await api.request<TaskBody[]>('GET', '/api/tasks/trash', alice)
    expect(trash.body).toHaveLength(1)
    for (const gone of [{ id }, { id: Number.MAX_SAFE_INTEGER }])
      expect(await bob.call('delete_task', gone)).toMatchObject({
        isError: true,
        structuredContent: { code: 'task_not_found' },
      })
    const restored = await alice.call('restore_task', { id })
    expect(restored).toMatchObject({ structuredContent: { id } })
    expect(await alice.call('restore_task', { id })).toEqual(restored)
  })

  test('move to the trash and back at the same moment, and are never told that the task is missing', async () => {
    const alice = await newAgent()
    const { id } = (await alice.call('add_task', { title: 'x' })).structuredContent
    const calls = Array.from({ length: 6 }, async (_, place) => {
      const answers = []
      for (let count = 0; count < 10; count += 1)
        answers.push(await alice.call(place % 2 ? 'delete_task' : 'restore_task', { id }))
      return answers
    })
    for (const { structuredContent } of (await Promise.all(calls)).flat())
      expect(structuredContent).toMatchObject({ id })
  })

  test('reach their own user’s tasks and nobody else’s', async () => {
    const [alice, bob] = [await newAgent(), await newAgent()]
    const mark = `only-${alice.id}`
    const { id } = (await alice.call('add_task', { title: mark })).structuredContent
    const before = await everythingOf(alice.id)
    for (const [name, args] of [
      ['get_task', { id }],
      ['update_task', { id, title: 'x' }],
      ['complete_task', { id }],
      ['delete_task', { id }],
    ] as const) {
      const result = await bob.call(name, args)
      expect([name, result]).toMatchObject([
        name,
        { isError: true, structuredContent: { code: 'not_owner' } },
      ])
      expect(JSON.stringify(result)).not.toContain(mark)
    }
    const { structuredContent: list } = await bob.call('list_tasks', { q: mark })
    expect(list).toEqual({ tasks: [], total: 0 })
    expect(await everythingOf(alice.id)).toBe(before)
  })

  test('take user_id if it is the caller’s', async () => {
    const { call, id: user_id } = await newAgent()
    expect((await call('add_task', { title: 'x', user_id })).isError).toBe(undefined)
    for (const wrong of ['somebody', 7, null, [user_id]])
      for (const name of all)
        expect(await call(name, { id: 1, title: 'x', user_id: wrong })).toMatchObject({
          isError: true,
          structuredContent: { code: 'wrong_user' },
        })
    expect(await rowsOf(user_id)).toHaveLength(1)
  })

  test.each([
    ['add_task', {}, 'title: is required'],
    ['add_task', { title: '   ' }, /^title: must be text of 1 to 200/],
    ['add_task', { title: 'a\0b' }, /^title: must be text/],
    ['add_task', { title: '\ud800' }, /^title: must be text/],
    ['add_task', { title: 'x', due_date: '2026-02-30' }, /^due_date: must be a date/],
    ['add_task', { title: 'x', due_time: '09:30' }, 'due_time: needs a due_date'],
    ['add_task', { title: 'x', idempotency_key: 'ü' }, /^idempotency_key: must be/],
    ['add_task', { title: 'x', tags: ['a', 'a'] }, /^tags: must be/],
    ['update_task', { id: 1 }, /must have at least one of title/],
    ['update_task', { title: 'x' }, 'id: is required'],
    ['update_task', JSON.parse('{"id":1,"__proto__":{"title":"x"}}'), /at least one of title/],
    ['update_task', { id: 1, title: 'x', if_version: '1' }, /^if_version: must be a whole number/],
    ['get_task', {}, 'id: is required'],
    ['get_task', { id: '1' }, /^id: must be a whole number/],
    ['get_task', { id: 1.5 }, /^id: must be a whole number/],
    ['get_task', { id: 2 ** 53 }, /^id: must be a whole number/],
    ['complete_task', { id: 1, completed: 'yes' }, 'completed: must be true or false'],
    ['list_tasks', { status: 'open' }, /^status: must be one of/],
    ['list_tasks', { cursor: 'x' }, /^cursor: must be one from/],
    ['list_tasks', { limit: 0 }, /^limit: must be a whole number from 1 to 100/],
  ])('%s refuses %j', async (name, args: object, detail) => {
    const { call, id } = await newAgent()
    const { isError, structuredContent } = await call(name, args)
    expect([isError, structuredContent]).toEqual([
      true,
      {
        detail: typeof detail === 'string' ? detail : expect.stringMatching(detail),
        code: 'validation_failed',
      },
    ])
    expect(await rowsOf(id)).toEqual([])
  })

  test('next_cursor is told of by its name', async () => {
    const { call } = await newAgent()
    const { structuredContent } = await call('list_tasks', { cursor: 'x' })
    expect(structuredContent['detail']).not.toContain('Link')
  })
})

describe('the endpoint', () => {
  const oneMessage = (json: unknown) => ({ json, headers: { accept: 'application/json' } })

  test('is for bearers of tokens and keys', async () => {
    const json = messageOf('modern', 'tools/list')
    const none = await api.request('POST', '/mcp', json)
    expect([none.status, none.body]).toMatchObject([401, { code: 'token_missing' }])
    expect(none.headers.get('www-authenticate')).toBe('Bearer')
    const wrong = await api.request('POST', '/mcp', { ...json, token: 'x' })
    expect([wrong.status, wrong.body]).toMatchObject([401, { code: 'token_invalid' }])
    expect(wrong.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"')
  })

  test.each(['GET', 'DELETE', 'PUT'])('%s is 405', async (method) => {
    const { token } = await newUser()
    const { status, headers } = await api.request(method, '/mcp', { token })
    expect([status, headers.get('allow')]).toEqual([405, 'OPTIONS, POST'])
  })

  test.each([
    ['an array', '[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400, -32600],
    ['an empty array', '[]', 400, -32600],
    ['no JSON', '{', 400, -32700],
    ['nothing', '', 400, -32700],
    ['text', '"x"', 400, -32600],
    ['another object', '{"a":1}', 400, -32600],
    ['an answer', '{"jsonrpc":"2.0","id":1,"result":{}}', 400, -32600],
    ['deep nesting', `${'['.repeat(100)}${']'.repeat(100)}`, 400, -32600],
  ])('%s is refused as no message', async (_, body, status, code) => {
    const { token } = await newUser()
    const headers = { 'content-type': 'application/json', accept: 'text/event-stream' }
    const answer = await api.request('POST', '/mcp', { token, body, headers })
    expect(answer.status).toBe(status)
    expect(answer.body).toEqual({
      jsonrpc: '2.0',
      id: null,
      error: { code, message: expect.any(String) },
    })
  })

  test('takes JSON alone, and 64 KiB of it', async () => {
    const { token } = await newUser()
    const headers = { 'content-type': 'text/plain' }
    expect((await api.request('POST', '/mcp', { token, body: '{}', headers })).status).toBe(415)
    const large = { jsonrpc: '2.0', id: 1, method: 'ping', params: { x: 'x'.repeat(65_536) } }
    const { status, body } = await api.request('POST', '/mcp', { token, ...oneMessage(large) })
    expect([status, body]).toMatchObject([413, { code: 'body_too_large' }])
  })

  test.each(['application/json', 'text/event-stream', '*/*', ''])(
    'answers in JSON whatever is accepted: %p',
    async (accept) => {
      const { ask } = await newAgent()
      for (const era of eras) {
        const { status, headers, body } = await ask('tools/list', {}, era, { headers: { accept } })
        expect([status, headers.get('content-type')]).toEqual([200, 'application/json'])
        expect(body.result).toHaveProperty('tools')
      }
    },
  )

  test('has no subscriptions, and no stream stays open', async () => {
    const { ask } = await newAgent()
    for (const era of eras)
      for (const params of [{}, { notifications: { toolsListChanged: true } }]) {
        const { body } = await ask('subscriptions/listen', params, era)
        expect(body.error?.code).toBe(-32601)
        expect(body.id).toBe(1)
      }
  })

  test.each(eras)('answers for methods that it lacks in its own words (%s)', async (era) => {
    const { ask } = await newAgent()
    const texts: string[] = []
    for (const [method, params, code] of [
      ['resources/list', {}, -32601],
      ['nonsense', {}, -32601],
      ['tools/call', { name: 'rm_rf', arguments: {} }, -32602],
      ['tools/call', { name: 'toString', arguments: {} }, -32602],
      ['tools/call', { name: 7 }, -32602],
      ['tools/call', { name: 'add_task', arguments: 'x' }, -32602],
    ] as const) {
      const { body, text } = await ask(method, params, era)
      expect([method, params, body.error?.code]).toEqual([method, params, code])
      texts.push(text)
    }
    // The SDK's own texts are those of zod, and sentences that repeat what was sent.
    expect(texts.join('\n')).not.toMatch(
      /expected|invalid_type|"path"|rm_rf|toString|nonsense|Bad Request/,
    )
  })

  test('params of the wrong shape get -32602', async () => {
    const { ask } = await newAgent()
    const unlike = { protocolVersion: 7, capabilities: {}, clientInfo: { name: 'x', version: '1' } }
    for (const [era, method, params] of [
      ['legacy', 'initialize', {}],
      ['legacy', 'initialize', unlike],
      ['legacy', 'tools/list', { cursor: 7 }],
      ['modern', 'tools/list', { cursor: 7 }],
    ] as const) {
      const { status, body } = await ask(method, params, era)
      expect([status, body]).toMatchObject([200, { id: 1, error: { code: -32602 } }])
    }
  })

  test('a client that asks for an unknown revision is told the known ones', async () => {
    const { ask } = await newAgent()
    const { json } = messageOf('modern', 'tools/list')
    const text = JSON.stringify(json).replaceAll('2026-07-28', '2031-01-01')
    const future = await ask('tools/list', {}, 'modern', {
      json: JSON.parse(text) as object,
      headers: { 'mcp-protocol-version': '2031-01-01' },
    })
    expect(future.status).toBe(400)
    expect(future.body.error).toMatchObject({ code: -32022, data: { supported: ['2026-07-28'] } })
    const { body } = await ask(
      'initialize',
      {
        protocolVersion: '1999-01-01',
        capabilities: {},
        clientInfo: { name: 'x', version: '1' },
      },
      'legacy',
    )
    expect(body.result).toMatchObject({
      protocolVersion: '2025-11-25',
      capabilities: { tools: {} },
      serverInfo: { name: 'todo-api' },
    })
    expect(body.result!['capabilities']).toEqual({ tools: {} })
  })

  test('extra members of a message get it refused with -32600', async () => {
    const { token } = await newUser()
    const more = { status: 200, json: 'x', refused: {}, ['__proto__']: { status: 200 } }
    const json = { jsonrpc: '2.0', id: 7, method: 'ping', params: {}, ...more }
    const { status, body } = await api.request<object>('POST', '/mcp', {
      token,
      ...oneMessage(json),
    })
    expect([status, body]).toMatchObject([400, { id: 7, error: { code: -32600 } }])
  })

  test('takes a notification with 202 and no body', async () => {
    const { token } = await newUser()
    const json = { jsonrpc: '2.0', method: 'notifications/initialized' }
    const { status, text } = await api.request('POST', '/mcp', { token, ...oneMessage(json) })
    expect([status, text]).toEqual([202, ''])
  })

  test('is there for pages of CORS_ORIGINS, for its own, and for no other', async () => {
    const { ask } = await newAgent()
    const statusFor = async (origin: string, more: Record<string, string> = {}) =>
      (await ask('tools/list', {}, 'modern', { headers: { origin, ...more } })).status
    expect(await statusFor(frontEnd)).toBe(200)
    expect(await statusFor(api.origin)).toBe(200)
    for (const origin of ['https://evil.example', 'null', `${frontEnd}.evil.example`])
      expect(await statusFor(origin)).toBe(403)
    // A name that an attacker's page lets point to this machine is none of ours.
    expect(await statusFor('http://evil.example', { host: 'evil.example' })).toBe(403)
    const stranger = await api.request('POST', '/mcp', {
      ...messageOf('modern', 'tools/list'),
      headers: { origin: 'https://evil.example' },
    })
    expect(stranger.body).toMatchObject({ code: 'origin_not_allowed' })

    const published = startApi({ settings: { PUBLIC_URL: 'https://todo.example' } })
    const own = speakMcp(published, (await newUser()).token)
    const headers = { origin: 'https://todo.example' }
    expect((await own.ask('tools/list', {}, 'modern', { headers })).status).toBe(200)
    await published.stop()
  })

  test('refuses a page that, by what a trusted proxy says, came over the other scheme', async () => {
    const statusAt = async (over: typeof api, scheme: string, proto?: string) => {
      const { ask } = speakMcp(over, (await newUser()).token)
      const origin = over.origin.replace('http', scheme)
      const headers = { origin, ...(proto !== undefined && { 'x-forwarded-proto': proto }) }
      return (await ask('tools/list', {}, 'modern', { headers })).status
    }
    expect(await statusAt(api, 'https')).toBe(403)
    expect(await statusAt(api, 'https', 'https')).toBe(403) // nobody believes this client
    const behind = startApi({ settings: { TRUSTED_PROXIES: '127.0.0.1' } })
    expect(await statusAt(behind, 'https', 'https')).toBe(200)
    expect(await statusAt(behind, 'http', 'https')).toBe(403)
    expect(await statusAt(behind, 'http', 'http')).toBe(200)
    await behind.stop()
  })

  test('lets pages send its headers', async () => {
    const { headers } = await api.request('OPTIONS', '/mcp', {
      headers: { origin: frontEnd, 'access-control-request-method': 'POST' },
    })
    const allowed = headers.get('access-control-allow-headers')?.split(', ')
    expect(allowed).toContainValues(['MCP-Protocol-Version', 'Mcp-Method', 'Mcp-Name'])
  })

  test('counts against the quota of the user', async () => {
    const limited = startApi({ settings: { RATE_LIMIT_PER_USER: '2' } })
    const user = await newUser()
    const { key } = await makeKey(user.token, 'read')
    const statuses = [
      (await speakMcp(limited, key).ask('ping', {}, 'legacy')).status,
      (await limited.request('GET', '/api/tasks', user)).status,
      (await speakMcp(limited, key).ask('ping', {}, 'legacy')).status,
    ]
    expect(statuses).toEqual([200, 200, 429])
    await limited.stop()
  })

  test('refuses a revoked key with the next request, on another process too', async () => {
    const user = await newUser()
    const { key, id } = await makeKey(user.token, 'write')
    expect((await speakMcp(elsewhere, key).ask('tools/list')).status).toBe(200)
    await api.request('DELETE', `/api/keys/${id}`, user)
    expect((await speakMcp(elsewhere, key).ask('tools/list')).status).toBe(401)
  })

  test('gives a token with a scope no more than that', async () => {
    const { id } = await newUser()
    const toolsFor = async (scope: string) => {
      const { ask } = speakMcp(api, await tokenFor(id, { scope }))
      const { body } = await ask('tools/list')
      return (body.result!['tools'] as Tool[]).map(({ name }) => name)
    }
    expect(await toolsFor('tasks:read')).toEqual(all.slice(0, 2))
    expect(await toolsFor('tasks:write')).toEqual(all.slice(2))
    expect(await toolsFor('openid')).toEqual([])
  })
})

describe('while the database is away', () => {
  const gone = startApi({
    over: databaseThat(async () => {
      throw new DatabaseUnavailable('connect ECONNREFUSED 10.0.0.7:5432', 'ECONNREFUSED')
    }),
  })
  const broken = startApi({
    over: databaseThat(async () => {
      throw new Error('SQLSTATE 22021 in report_invalid_encoding')
    }),
  })
  afterAll(async () => {
    await Promise.all([gone.stop(), broken.stop()])
  })

  test.each(all)('%s says that, and nothing of what is inside', async (name) => {
    const { token } = await newUser()
    for (const era of eras)
      for (const [over, code] of [
        [gone, 'database_unavailable'],
        [broken, 'internal_error'],
      ] as const) {
        const { call } = speakMcp(over, token)
        const { isError, structuredContent } = await call(name, { id: 1, title: 'x' }, era)
        expect([isError, structuredContent['code']]).toEqual([true, code])
        expect(Object.keys(structuredContent)).toEqual(['detail', 'code'])
        expect(JSON.stringify(structuredContent)).not.toMatch(/ECONN|10\.0|SQLSTATE|22021/)
      }
    expect(broken.lines.join('')).toContain('22021')
  })

  test('a key cannot be looked up: 503', async () => {
    const { key } = await makeKey((await newUser()).token, 'read')
    const { status, body, headers } = await speakMcp(gone, key).ask('tools/list')
    expect([status, body]).toMatchObject([503, { code: 'database_unavailable' }])
    expect(headers.get('retry-after')).toBe('1')
    expect((await speakMcp(broken, key).ask('tools/list')).status).toBe(500)
  })

  test('what needs no database is answered', async () => {
    const { token } = await newUser()
    expect((await speakMcp(gone, token).ask('tools/list')).status).toBe(200)
  })
})
