import { afterAll, describe, expect, test } from 'bun:test'
import { startProxy } from '../support/proxy.ts'
import { parseDatabaseUrl } from '../../db/address.ts'
import { DatabaseUnavailable } from '../../db/failures.ts'
import { connect, type Database } from '../../db/pool.ts'
import { migrate, MigrationFailed, migrations } from '../../db/migrate.ts'
import { startCutLine } from '../support/cut-line.ts'
import { eventually } from '../support/eventually.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const pooler = await startPgBouncer(postgres)
afterAll(async () => {
  await pooler.close()
  await postgres.close()
})

const { authority } = postgres.certificates
const byAddress = { port: postgres.port, host: '127.0.0.1' }
const asNeon = 'sslmode=require&channel_binding=require'

async function use<Result>(url: string, action: (database: Database) => Promise<Result>) {
  const database = connect(parseDatabaseUrl(url))
  try {
    return await action(database)
  } finally {
    await database.close()
  }
}

async function isEncrypted({ query }: Database): Promise<boolean> {
  const [row] = await query<{ ssl: boolean }>`
    select ssl from pg_stat_ssl where pid = pg_backend_pid()`
  return row!.ssl
}

describe('connecting', () => {
  test.each([
    [
      'to PostgreSQL as Neon writes it',
      databaseUrl(postgres, `${asNeon}&sslrootcert=${authority}`),
    ],
    [
      'to PgBouncer as Neon writes it',
      databaseUrl(pooler, `${asNeon}&prepare=false&sslrootcert=${authority}`),
    ],
    ['with no sslmode', databaseUrl(postgres, '')],
    ['with sslmode=require', databaseUrl(postgres, 'sslmode=require')],
    [
      'with sslmode=require and no prepared statements',
      databaseUrl(postgres, 'sslmode=require&prepare=false'),
    ],
    [
      'with sslmode=verify-full',
      databaseUrl(postgres, `sslmode=verify-full&sslrootcert=${authority}`),
    ],
    [
      'with sslmode=verify-ca to a host whose name is not in the certificate',
      databaseUrl(byAddress, `sslmode=verify-ca&sslrootcert=${authority}`),
    ],
  ])('%s works, encrypted', async (_, url) => {
    expect(await use(url, isEncrypted)).toBe(true)
  })

  const unknownAuthority = 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'
  test.each([
    ['an unknown authority, as Neon writes it,', databaseUrl(postgres, asNeon), unknownAuthority],
    [
      'an unknown authority behind PgBouncer',
      databaseUrl(pooler, `${asNeon}&prepare=false`),
      unknownAuthority,
    ],
    [
      'an unknown authority, with verify-ca,',
      databaseUrl(postgres, 'sslmode=verify-ca'),
      unknownAuthority,
    ],
    [
      'a certificate for another host',
      databaseUrl(byAddress, `sslmode=verify-full&sslrootcert=${authority}`),
      'ERR_TLS_CERT_ALTNAME_INVALID',
    ],
    [
      'a certificate for another host, as Neon writes it,',
      databaseUrl(byAddress, `${asNeon}&sslrootcert=${authority}`),
      'ERR_TLS_CERT_ALTNAME_INVALID',
    ],
    ['a connection without encryption', databaseUrl(postgres, 'sslmode=disable'), '28000'],
    ['a wrong password', databaseUrl(postgres, 'sslmode=require', 'wrong-password'), '28P01'],
    [
      'a wrong password for PgBouncer',
      databaseUrl(pooler, 'sslmode=require', 'wrong-password'),
      '08P01',
    ],
    [
      'a database that does not exist',
      databaseUrl({ ...postgres, database: 'nowhere' }, 'sslmode=require'),
      '3D000',
    ],
  ])('%s is refused, and the reason names no password', async (_, url, reason) => {
    const refused = use(url, async ({ query }) => query`select 1`)
    const error = await refused.catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(DatabaseUnavailable)
    const said = Bun.inspect(error)
    expect((error as Error).message).toContain(reason)
    for (const password of [owner.password, encodeURIComponent(owner.password), 'wrong-password'])
      expect(said).not.toContain(password)
  })

  test('max is the most connections that are opened, however many statements run', async () => {
    const url = databaseUrl(postgres, 'sslmode=require&max=2&application_name=two-at-most')
    await use(url, async ({ query }) => {
      const statements = Array.from({ length: 50 }, async () => query`select pg_sleep(0.01)`)
      await Promise.all(statements)
      const open = await postgres.admin`
        select from pg_stat_activity where application_name = 'two-at-most'`
      expect(open).toHaveLength(2)
    })
  })
})

describe('failing', () => {
  test('a statement that the deadline kept from running never runs', async () => {
    const address = parseDatabaseUrl(databaseUrl(postgres, 'sslmode=require'))
    const database = connect(address, { deadline: 1_000 })
    await postgres.admin`create table late (id int)`
    await postgres.admin`insert into late values (1)`
    await postgres.admin.unsafe(`grant all on late to ${owner.name}`)
    const update = async () => database.query`update late set id = id where id = ${1}`
    const insert = async () => database.query`insert into late values (${2})`
    // Whatever is sent at once, prepared statements included, has been sent before.
    await Promise.all(Array.from({ length: 100 }, async (_, n) => (n % 2 ? insert() : update())))
    await postgres.admin`delete from late where id = 2`

    const release = await postgres.hold('select from late where id = 1 for update')
    const blocked = Array.from({ length: address.maxConnections }, update)
    const behind = Array.from({ length: 2 * address.maxConnections }, insert)
    for (const outcome of await Promise.allSettled([...blocked, ...behind]))
      expect(outcome).toMatchObject({ reason: { name: 'DatabaseUnavailable' } })
    await release()
    await database.close()
    expect(await postgres.admin`select from late where id = 2`).toHaveLength(0)
  })

  test('a connection that is lost amid a result leaves nothing of it to the next', async () => {
    const line = await startCutLine(postgres.port)
    await use(databaseUrl(line, 'sslmode=require&max=1'), async ({ query }) => {
      await query`select 1`
      line.cutAfter(100_000)
      const lost = query`select n, repeat('x', 100) from generate_series(1, 5000) n`
      await expect(lost).rejects.toThrow(DatabaseUnavailable)
      line.cutAfter(Infinity)
      expect(await query`select 1 as one`).toEqual([{ one: 1 }])
    })
    line.close()
  })
})

describe('a line that goes dead without a word', () => {
  test('is given up with its statement, and the next ones use another', async () => {
    const proxy = await startProxy(postgres.port)
    const address = parseDatabaseUrl(databaseUrl(proxy, 'sslmode=require&max=3'))
    const database = connect(address, { deadline: 500 })
    const ask = async () => database.query`select 1`
    const askSlowly = async () => database.query`select pg_sleep(0.1)`
    await Promise.all([askSlowly(), askSlowly(), askSlowly()]) // on a line each
    proxy.become('silent') // for good, on the lines that there are
    proxy.become('clear')
    for (const outcome of await Promise.allSettled([ask(), ask(), ask()]))
      expect(outcome).toMatchObject({ reason: { name: 'DatabaseUnavailable' } })
    await eventually('another line is used', async () => ask().catch(() => false as const), 3_000)
    for (const rows of await Promise.all([ask(), ask(), ask(), ask()])) expect(rows).toHaveLength(1)
    await database.close()
    proxy.close()
  })
})

describe.each([
  ['PostgreSQL', postgres.port, 'sslmode=require'],
  ['PgBouncer', pooler.port, 'sslmode=require&prepare=false'],
])('migrating through %s', (_, port, parameters) => {
  async function freshUrl(): Promise<string> {
    return databaseUrl({ port, database: await postgres.createDatabase() }, parameters)
  }

  async function recorded(url: string): Promise<string[]> {
    return use(url, async ({ query }) => {
      const rows = await query<{
        name: string
      }>`select name from todo_api.schema_migrations order by name`
      return rows.map(({ name }) => name)
    })
  }

  test('five servers do it at once, and every migration runs once', async () => {
    const several = [
      ...migrations,
      { name: '9998_slow', sql: 'create table slow (); select pg_sleep(0.1)' },
      { name: '9999_last', sql: 'create table last ()' },
    ]
    const names = several.map(({ name }) => name)
    for (let round = 0; round < 5; round += 1) {
      const url = await freshUrl()
      const servers = Array.from({ length: 5 }, async () =>
        use(url, async (database) => migrate(database, several)),
      )
      expect((await Promise.all(servers)).flat().toSorted()).toEqual(names)
      expect(await recorded(url)).toEqual(names)
      expect(await use(url, async (database) => migrate(database, several))).toEqual([])
    }
  })

  test.each([
    'statement_timeout = 100',
    'lock_timeout = 100',
    'default_transaction_read_only = on',
    "default_transaction_isolation = 'serializable'",
  ])('a database that sets %s for every day is migrated all the same', async (limit) => {
    const url = await freshUrl()
    const database = new URL(url).pathname.slice(1)
    await postgres.admin.unsafe(`alter database ${database} set ${limit}`)
    const admin = postgres.connectAsSuperuser(database)
    const session = await admin.reserve()
    await session`begin`
    await session`select pg_advisory_xact_lock(7326417205)` // as another server that migrates
    const migrating = use(url, migrate)
    await Promise.race([
      migrating, // it may fail
      eventually('it waits for longer than the limit', async () => {
        const late = await postgres.admin`
          select from pg_stat_activity
          where datname = ${database} and wait_event_type = 'Lock'
            and clock_timestamp() - query_start > interval '200 ms'`
        return late.length > 0
      }),
    ])
    await session`commit`
    session.release()
    expect(await migrating).toEqual(migrations.map(({ name }) => name))
    await admin.end()
  })

  test('a list that is written to while it is counted again is counted right', async () => {
    const url = await freshUrl()
    const before = migrations.findIndex(({ name }) => name === '0004_recount')
    await use(url, async (database) => migrate(database, migrations.slice(0, before)))
    const admin = postgres.connectAsSuperuser(new URL(url).pathname.slice(1))
    await admin`insert into todo_api.task_lists (user_id, counter, task_count) values ('alice', 7, 3)`
    const session = await admin.reserve()
    await session`begin`
    await session`update todo_api.task_lists set counter = 8, task_count = 4`
    await session`insert into todo_api.tasks (user_id, title, change) values ('alice', 'Only', 8)`
    const migrating = use(url, migrate)
    await eventually('it waits for the write', async () => (await postgres.waiting()) > 0)
    await session`commit`
    session.release()
    await migrating
    const rows = await admin`
      select counter::int, task_count, purged_through::int from todo_api.task_lists where user_id = 'alice'`
    expect([...rows]).toEqual([{ counter: 9, task_count: 1, purged_through: 9 }])
    await admin.end()
  })

  test('one that fails is rolled back whole, named, and may be mended', async () => {
    const url = await freshUrl()
    const good = { name: '0001_good', sql: 'create table good (id int)' }
    const bad = {
      name: '0002_bad',
      sql: 'create table half (id int); insert into good values (1 / 0)',
    }
    const mended = { name: '0002_bad', sql: 'create table half (id int)' }
    await use(url, async (database) => {
      const error = await migrate(database, [good, bad]).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(MigrationFailed)
      expect((error as Error).message).toContain('0002_bad')
      expect((error as Error).message).toContain('division by zero')
      const [{ half, kept } = {}] = await database.query<{ half: boolean; kept: boolean }>`
        select to_regclass('todo_api.half') is not null as half, to_regclass('todo_api.good') is not null as kept`
      expect({ half, kept }).toEqual({ half: false, kept: true })
      expect(await recorded(url)).toEqual(['0001_good'])
      expect(await migrate(database, [good, mended])).toEqual(['0002_bad'])
    })
  })
})
