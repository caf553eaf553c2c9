import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseDatabaseUrl } from '../../db/address.ts'
import { DatabaseUnavailable, StatementFailed } from '../../db/failures.ts'
import { connect, type Database } from '../../db/pool.ts'
import { DirectoryInUse } from '../../db/data-directory.ts'
import { embeddedVersion, startEmbedded, type EmbeddedDatabase } from '../../db/embedded.ts'
import { migrate, MigrationFailed, migrations } from '../../db/migrate.ts'
import { createChangeFeed } from '../../sync/changes.ts'
import { createTaskStore } from '../../tasks/store.ts'
import { unsetFields } from '../support/api.ts'

let embedded: EmbeddedDatabase
let database: Database
beforeAll(async () => {
  embedded = await startEmbedded('memory://')
  database = connect({ socket: embedded.socket })
  await migrate(database)
})
afterAll(async () => {
  await database.close()
  await embedded.close()
})

describe('migrations', () => {
  test('run in order, once, and are recorded', async () => {
    const fresh = await startEmbedded('memory://')
    const empty = connect({ socket: fresh.socket })
    const names = migrations.map(({ name }) => name)
    expect(names).toEqual(names.toSorted())
    expect(await migrate(empty)).toEqual(names)
    expect(await migrate(empty)).toEqual([])
    const rows = await empty.query<{ name: string }>`
      select name from todo_api.schema_migrations order by name`
    expect(rows.map(({ name }) => name)).toEqual(names)
    await empty.close()
    await fresh.close()
  })

  test('run on a database that holds data from the first version, and lose nothing', async () => {
    const old = await startEmbedded('memory://')
    const filled = connect({ socket: old.socket })
    await migrate(filled, migrations.slice(0, 1))
    await filled.script(
      `insert into todo_api.tasks (user_id, title, description, completed, created_at, updated_at) values
         ('alice', 'First', null, false, '2026-01-01T00:00:00.123456Z', '2026-01-01T00:00:00.123456Z'),
         ('bob', 'His', 'text', true, '2026-01-02T00:00:00Z', '2026-01-03T00:00:00Z'),
         ('alice', 'Second', '', true, '2026-01-04T00:00:00Z', '2026-01-05T00:00:00.5Z')`,
      1000,
    )
    const before = await filled.query`
      select id, user_id, title, description, completed, created_at::text, updated_at::text
      from todo_api.tasks order by id`
    await migrate(filled)
    expect(
      await filled.query`
        select id, user_id, title, description, completed, created_at::text, updated_at::text
        from todo_api.tasks order by id`,
    ).toEqual(before)
    const store = createTaskStore(filled, { maxTasksPerUser: 10 })
    expect(JSON.parse((await store.find('alice', 3)).json)).toEqual({
      id: 3,
      title: 'Second',
      description: '',
      completed: true,
      ...unsetFields,
      completed_at: '2026-01-05T00:00:00.500Z',
      created_at: '2026-01-04T00:00:00.000Z',
      updated_at: '2026-01-05T00:00:00.500Z',
      version: 1,
    })
    await store.create('alice', { title: 'Third' }, {})
    expect(
      await filled.query`select user_id, counter, task_count from todo_api.task_lists order by user_id`,
    ).toEqual([
      { user_id: 'alice', counter: 4, task_count: 3 },
      { user_id: 'bob', counter: 2, task_count: 1 },
    ])
    expect(
      await filled.query`select title, change from todo_api.tasks where user_id = 'alice' order by change`,
    ).toEqual([
      { title: 'First', change: 1 },
      { title: 'Second', change: 2 },
      { title: 'Third', change: 4 },
    ])
    await filled.close()
    await old.close()
  })

  test('what a server without a trash did next to one with it is repaired', async () => {
    const old = await startEmbedded('memory://')
    const mixed = connect({ socket: old.socket })
    // All but the one that mends: today's store needs the tables of those after it.
    await migrate(
      mixed,
      migrations.filter(({ name }) => name !== '0004_recount'),
    )
    const store = createTaskStore(mixed, { maxTasksPerUser: 10 })
    const changes = createChangeFeed(mixed)
    for (const title of ['Kept', 'Trashed', 'Gone']) await store.create('alice', { title }, {})
    await store.remove('alice', 2, {})
    const { token } = await changes.since('alice', undefined, 10)
    // The deletion of the version before 0003_trash_and_sync, of a task in the trash and of another.
    for (const id of [2, 3])
      await mixed.query`
        with list as (
          update todo_api.task_lists set counter = counter + 1, task_count = task_count - 1
          where user_id = 'alice' returning counter
        )
        delete from todo_api.tasks using list where tasks.user_id = 'alice' and id = ${id}`
    const misled = await changes.since('alice', token, 10)
    expect(misled).toMatchObject({ items: '[]', deleted: '[]' })
    const countOf = async () =>
      mixed.query`select task_count from todo_api.task_lists where user_id = 'alice'`
    expect(await countOf()).toEqual([{ task_count: 0 }])

    await migrate(mixed)
    expect(await countOf()).toEqual([{ task_count: 1 }])
    // This holds for readers who have seen later changes than the hidden deletion, too.
    for (const known of [token, misled.token])
      await expect(changes.since('alice', known, 10)).rejects.toMatchObject({
        code: 'sync_token_expired',
      })
    const anew = await changes.since('alice', undefined, 10)
    expect(JSON.parse(anew.items)).toMatchObject([{ title: 'Kept' }])
    expect(await changes.since('alice', anew.token, 10)).toMatchObject({ items: '[]' })
    await mixed.close()
    await old.close()
  })

  test('due dates in zones that had no summer time move, and followers hear of it', async () => {
    const old = await startEmbedded('memory://')
    const filled = connect({ socket: old.socket })
    const position = migrations.findIndex(({ name }) => name === '0006_zones_with_summer_time')
    await migrate(filled, migrations.slice(0, position))
    await filled.script(
      `insert into todo_api.task_lists (user_id, counter, task_count) values ('alice', 5, 5), ('bob', 1, 1);
       insert into todo_api.tasks (user_id, title, change, due_date, due_time, due_timezone) values
         ('alice', 'summer', 1, '2026-07-01', '09:30', 'CET'),
         ('alice', 'winter', 2, '2026-01-01', '09:30', 'CET'),
         ('alice', 'all day', 3, '2026-07-01', null, 'EET'),
         ('alice', 'south of it', 4, '2026-07-01', '09:30', 'eet'),
         ('alice', 'paris', 5, '2026-07-01', '09:30', 'Europe/Paris'),
         ('bob', 'never', 1, null, null, null)`,
      1000,
    )
    await migrate(filled)
    expect(
      await filled.query`
        select title, due_timezone, change, version,
          to_char(due_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as due_at
        from todo_api.tasks order by id`,
    ).toEqual([
      { title: 'summer', due_timezone: 'CET', change: 6, version: 2, due_at: '2026-07-01 07:30' },
      { title: 'winter', due_timezone: 'CET', change: 2, version: 1, due_at: '2026-01-01 08:30' },
      { title: 'all day', due_timezone: 'EET', change: 3, version: 1, due_at: null },
      {
        title: 'south of it',
        due_timezone: 'eet',
        change: 7,
        version: 2,
        due_at: '2026-07-01 06:30',
      },
      {
        title: 'paris',
        due_timezone: 'Europe/Paris',
        change: 5,
        version: 1,
        due_at: '2026-07-01 07:30',
      },
      { title: 'never', due_timezone: null, change: 1, version: 1, due_at: null },
    ])
    expect(
      await filled.query`select user_id, counter from todo_api.task_lists order by user_id`,
    ).toEqual([
      { user_id: 'alice', counter: 7 },
      { user_id: 'bob', counter: 1 },
    ])
    await filled.close()
    await old.close()
  })

  test('leave tables that can be split by user: every key begins with the user', async () => {
    const keys = await database.query`
      select indexrelid::regclass::text as key, attname as first
      from pg_index
        join pg_class on pg_class.oid = indrelid
        join pg_attribute on attrelid = indrelid and attnum = indkey[0]
      where indisunique and relnamespace = 'todo_api'::regnamespace
        and relname not in ('schema_migrations', 'epoch')
      order by key`
    expect(keys).toEqual(
      [
        'deleted_tasks_pkey',
        'event_tickets_pkey',
        'idempotency_keys_pkey',
        'personal_keys_pkey',
        'personal_keys_user_id_slot_key',
        'reminders_pkey',
        'task_lists_pkey',
        'tasks_by_previous',
        'tasks_pkey',
      ].map((key) => ({ key: `todo_api.${key}`, first: 'user_id' })),
    )
  })

  test('one that fails is rolled back whole and named', async () => {
    const bad = [
      ...migrations,
      { name: '9000_good', sql: 'create table good (id int)' },
      {
        name: '9001_bad',
        sql: 'create table half (id int); insert into half values (1); select nonsense',
      },
      { name: '9002_never', sql: 'create table never (id int)' },
    ]
    await expect(migrate(database, bad)).rejects.toThrow(
      new MigrationFailed(
        'Migration 9001_bad failed and was rolled back: column "nonsense" does not exist (SQLSTATE 42703)',
      ),
    )
    const tables = async () =>
      (
        await database.query<{ name: string }>`
          select tablename as name from pg_tables where tablename in ('good', 'half', 'never')`
      ).map(({ name }) => name)
    expect(await tables()).toEqual(['good'])
    const mended = bad.map((migration) =>
      migration.name === '9001_bad'
        ? { ...migration, sql: 'create table half (id int)' }
        : migration,
    )
    expect(await migrate(database, mended)).toEqual(['9001_bad', '9002_never'])
    expect((await tables()).toSorted()).toEqual(['good', 'half', 'never'])
  })

  test('a unique violation inside one is a failure, and is not taken to mean that it has already run', async () => {
    const clash = [
      {
        name: '9100_clash',
        sql: 'create table clash (id int primary key); insert into clash values (1), (1)',
      },
    ]
    await expect(migrate(database, clash)).rejects.toThrow('Migration 9100_clash failed')
  })
})

describe('a statement', () => {
  test('that PostgreSQL refuses says where, and repeats none of its values', async () => {
    const refused = database.query`select ${'a very private title\0'}::text`
    await expect(refused).rejects.toBeInstanceOf(StatementFailed)
    const error: unknown = await refused.catch((thrown: unknown) => thrown)
    expect(error).toEqual(
      new StatementFailed('22021', 'SQLSTATE 22021 in report_invalid_encoding_int'),
    )
    expect(Bun.inspect(error)).not.toContain('private')
  })

  test('with a value that is undefined is a fault of the program, not of the database', async () => {
    const nothing = undefined as unknown as string
    const error = await database.query`select ${nothing}`.catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(Error)
    expect(error).not.toBeInstanceOf(DatabaseUnavailable)
  })

  test('counts and ids come as numbers', async () => {
    expect(
      await database.query`select count(*) as count, 9007199254740991::bigint as id from generate_series(1, 3)`,
    ).toEqual([{ count: 3, id: Number.MAX_SAFE_INTEGER }])
  })

  // As after a failover, or behind a pooler that does not know of prepared statements.
  test('that the server has forgotten is sent again with the same values', async () => {
    const values = async () =>
      database.query`
        select ${true}::boolean as yes, ${false}::boolean as no, ${7}::bigint as seven, ${'x'} as text`
    const expected = [{ yes: true, no: false, seven: 7, text: 'x' }]
    expect(await values()).toEqual(expected)
    await database.script('deallocate all', 1000)
    expect(await values()).toEqual(expected)
  })
})

test('a database that is not there is soon reported as unavailable', async () => {
  const nowhere = connect({ socket: join(tmpdir(), 'no-such-directory', '.s.PGSQL.5432') })
  const started = performance.now()
  await expect(nowhere.query`select 1`).rejects.toBeInstanceOf(DatabaseUnavailable)
  expect(performance.now() - started).toBeLessThan(5_500)
  await nowhere.close()
})

test('a database that takes the connection and says nothing is unavailable at the deadline', async () => {
  const socket = join(await mkdtemp(join(tmpdir(), 'todo-api-test-')), '.s.PGSQL.5432')
  const silent = Bun.listen({ unix: socket, socket: { data() {} } })
  const patient = connect({ socket }, { deadline: 200 })
  const waiting = Array.from({ length: 5 }, async () => patient.query`select 1`.catch(String))
  expect(new Set(await Promise.all(waiting))).toEqual(
    new Set(['DatabaseUnavailable: No answer within 200 ms']),
  )
  silent.stop(true)
  await patient.close()
})

test('a statement whose end the database never reports is unavailable, not empty', async () => {
  const socket = join(await mkdtemp(join(tmpdir(), 'todo-api-test-')), '.s.PGSQL.5432')
  const isSignedIn = Buffer.from('R\0\0\0\x08\0\0\0\0', 'latin1')
  const isReady = Buffer.from('Z\0\0\0\x05I', 'latin1')
  const server = Bun.listen({
    unix: socket,
    socket: {
      open: (connection) => void connection.write(isSignedIn),
      data: (connection) => void connection.write(isReady),
    },
  })
  const told = connect({ socket }, { deadline: 1_000 })
  await expect(told.query`select 1`).rejects.toBeInstanceOf(DatabaseUnavailable)
  await expect(told.script('select 1; select 2', 1_000)).rejects.toBeInstanceOf(DatabaseUnavailable)
  server.stop(true)
  await told.close()
})

test.each([
  ['does not encrypt', 'N', 'The server does not encrypt, and sslmode asks for it'],
  [
    'was written to before it encrypts',
    'SZ\0\0\0\x05I',
    'The server does not say whether it encrypts',
  ],
  ['speaks of something else', 'HTTP/1.1 400', 'The server does not say whether it encrypts'],
])('a line that %s is given up, and nobody signs in on it', async (_, answer, reason) => {
  let heard = 0
  const server = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      data(connection, bytes) {
        heard += bytes.length
        connection.write(answer)
      },
    },
  })
  const url = `postgresql://alice:secret@127.0.0.1:${server.port}/db?sslmode=require`
  const told = connect(parseDatabaseUrl(url))
  await expect(told.query`select 1`).rejects.toThrow(new DatabaseUnavailable(reason))
  expect(heard).toBe(8) // the request to encrypt
  server.stop(true)
  await told.close()
})

describe('the embedded database', () => {
  test('is of the version that its files must have', async () => {
    expect(
      await database.query`select current_setting('server_version_num')::int / 10000 as major`,
    ).toEqual([{ major: Number(embeddedVersion) }])
  })

  test('keeps its data, and its directory for itself', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'todo-api-test-'))
    const first = await startEmbedded(directory)
    const writer = connect({ socket: first.socket })
    await migrate(writer)
    await writer.query`insert into todo_api.tasks (user_id, title) values ('alice', 'Kept')`
    await expect(startEmbedded(directory)).rejects.toBeInstanceOf(DirectoryInUse)
    await writer.close()
    await first.close()

    const second = await startEmbedded(directory)
    const reader = connect({ socket: second.socket })
    expect(await migrate(reader)).toEqual([])
    expect(await reader.query`select user_id, title from todo_api.tasks`).toEqual([
      { user_id: 'alice', title: 'Kept' },
    ])
    await reader.close()
    await second.close()
    await rm(directory, { recursive: true })
  })
})
