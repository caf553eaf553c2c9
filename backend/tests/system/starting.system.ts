import { afterAll, describe, expect, test } from 'bun:test'
import { newUser } from '../support/api.ts'
import { eventually } from '../support/eventually.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { spawnServer, startServer } from '../support/server.ts'

const postgres = await startPostgres()
const unencrypted = await startPostgres({ ssl: 'off' }, { plain: true })
const pooler = await startPgBouncer(postgres)
afterAll(async () => {
  await pooler.close()
  await Promise.all([postgres.close(), unencrypted.close()])
})

/** The last line of a server that cannot start, and how long it took in milliseconds. */
async function refusal(url: string) {
  const began = performance.now()
  const server = spawnServer(url)
  const lines = await server.wholeLog()
  expect(await server.exited).toBe(1)
  for (const password of [owner.password, encodeURIComponent(owner.password), 'wrong-password'])
    expect(JSON.stringify(lines)).not.toContain(password)
  const last = lines.at(-1)!
  expect(last).toMatchObject({ level: 60 })
  return { said: last.msg ?? '', lines, took: performance.now() - began }
}

const atOnce = 5_000 // ms, of which most is the start of the process

describe('a database that will never work is reported at once, with its setting and a hint:', () => {
  const escapes =
    'in a user name or password, write @ as %40, # as %23, / as %2F, ? as %3F and % as %25, and in a file .env also $ as %24.'
  const anew = `Copy the connection string again; ${escapes}`
  const create = 'Create the database, or correct its name: it stands after the last /.'
  const letIn = 'Check its user and sslmode, and whether pg_hba.conf lets that user in from here.'
  const required = 'sslmode=require'

  test.each([
    [
      'a wrong password',
      databaseUrl(postgres, required, 'wrong-password'),
      `password authentication failed for user "${owner.name}" (SQLSTATE 28P01). ${anew}`,
    ],
    [
      'a wrong password for PgBouncer',
      databaseUrl(pooler, required, 'wrong-password'),
      `SASL authentication failed (SQLSTATE 08P01). ${anew}`,
    ],
    [
      'a connection that must be encrypted and is not',
      databaseUrl(postgres, 'sslmode=disable'),
      `no pg_hba.conf entry for host "127.0.0.1", user "${owner.name}", database "neondb", no encryption (SQLSTATE 28000). ${letIn}`,
    ],
    [
      'a database that does not exist',
      databaseUrl({ ...postgres, database: 'nowhere' }, required),
      `database "nowhere" does not exist (SQLSTATE 3D000). ${create}`,
    ],
    [
      'a database that does not exist behind PgBouncer',
      databaseUrl({ ...pooler, database: 'nowhere' }, `${required}&prepare=false`),
      `database "nowhere" does not exist (SQLSTATE 08P01). ${create}`,
    ],
    [
      'no TLS where it is asked for',
      databaseUrl(unencrypted, required),
      'the server does not encrypt connections, and sslmode asks for it. Turn TLS on there, or on a network that you trust set sslmode=disable.',
    ],
    [
      'a certificate of an unknown authority',
      databaseUrl(postgres, 'sslmode=verify-full'),
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE: unable to verify the first certificate. Name the file of the authority that signed the certificate: sslrootcert=FILE. Or encrypt without verifying: sslmode=require without channel_binding.',
    ],
    [
      'an option that PostgreSQL does not know',
      databaseUrl(postgres, `${required}&options=-c%20nonsense%3D1`),
      'unrecognized configuration parameter "nonsense" (SQLSTATE 42704). Take that parameter out of its options.',
    ],
  ])('%s', async (_, url, problem) => {
    const { said, lines, took } = await refusal(url)
    expect(said).toBe(`DATABASE_URL: ${problem}`)
    expect(lines).toHaveLength(1)
    expect(took).toBeLessThan(atOnce)
  })

  test.each(['LATIN1', 'SQL_ASCII'])('an encoding of %s', async (encoding) => {
    const database = `in_${encoding.toLowerCase()}`
    await postgres.admin.unsafe(
      `create database ${database} owner ${owner.name} encoding '${encoding}' locale 'C' template template0`,
    )
    const { said, took } = await refusal(databaseUrl({ ...postgres, database }, required))
    expect(said).toBe(
      `DATABASE_URL: the database ${database} is encoded as ${encoding}, and tasks need UTF8. Create another one: create database … template template0 encoding 'UTF8'`,
    )
    expect(took).toBeLessThan(atOnce)
  })
})

test.each(['repeatable read', 'serializable'])(
  'writes would fail under %s, and so a start says so at once',
  async (isolation) => {
    const database = await postgres.createDatabase()
    const setting = 'default_transaction_isolation'
    await postgres.admin.unsafe(`alter database ${database} set ${setting} = '${isolation}'`)
    const { said, took } = await refusal(databaseUrl({ ...postgres, database }, 'sslmode=require'))
    expect(said).toBe(
      `DATABASE_URL: ${setting} is ${isolation}, under which writes at the same moment fail, and it has to be read committed. See where it is set: alter role ${owner.name} or alter database ${database}, reset ${setting}; the options of DATABASE_URL; postgresql.conf`,
    )
    expect(took).toBeLessThan(atOnce)
  },
)

test('an unknown host may be one that is starting; in the end the setting is named', async () => {
  const { said, lines, took } = await refusal(
    databaseUrl({ ...postgres, host: 'nowhere.invalid' }, 'sslmode=require'),
  )
  expect(said).toBe(
    'DATABASE_URL: no database answered for 30 s: ENOTFOUND: getaddrinfo ENOTFOUND nowhere.invalid. Is the name of its host right?',
  )
  expect(lines.map(({ msg }) => msg).slice(0, -1)).toEqual([
    'The database does not answer yet, trying again: ENOTFOUND: getaddrinfo ENOTFOUND nowhere.invalid',
  ])
  expect(took).toBeGreaterThan(30_000)
}, 60_000)

describe('a role that may read and write and not create', () => {
  const password = 'of the app'
  const urlOf = (database: string) =>
    databaseUrl({ ...postgres, database }, 'sslmode=require', password).replace(owner.name, 'app')

  test('is told what it lacks while there is something to migrate, and can serve afterwards', async () => {
    await postgres.admin.unsafe(`create role app login password '${password}'`)
    const database = await postgres.createDatabase()
    const lacks = `The role app of DATABASE_URL lacks a right to change the tables of ${database}. Start one server with the role that owns them and may create schemas (its owner lets app do that by: grant create on database ${database} to app); once that is done, app needs only to use the schema todo_api, and to read and write its tables.`
    expect((await refusal(urlOf(database))).said).toBe(
      `The schema todo_api cannot be made: permission denied for database ${database} (SQLSTATE 42501). ${lacks}`,
    )
    const admin = postgres.connectAsSuperuser(database)
    await admin.unsafe('create schema todo_api')
    expect((await refusal(urlOf(database))).said).toContain(
      '(its owner lets app do that by: grant usage, create on schema todo_api to app)',
    )
    await admin.unsafe('drop schema todo_api')
    const byOwner = await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))
    await byOwner.end()
    const [called] = await admin<{ names: string }[]>`
      select string_agg(oid::regproc::text, ', ' order by proname) as names from pg_proc
      where pronamespace = 'todo_api'::regnamespace and prorettype <> 'trigger'::regtype`
    const functions = called!.names
    const all = 'grant select, insert, update, delete on'
    expect((await refusal(urlOf(database))).said).toBe(
      'DATABASE_URL: the role app lacks rights. Let the owner of the schema and its tables run: ' +
        'grant usage on schema todo_api to app; ' +
        `${all} todo_api.deleted_tasks, todo_api.event_tickets, todo_api.idempotency_keys, todo_api.personal_keys, todo_api.reminders, todo_api.task_lists, todo_api.tasks to app; ` +
        'grant select on todo_api.epoch, todo_api.schema_migrations to app;',
    )
    await admin.unsafe(`
      revoke execute on all functions in schema todo_api from public;
      grant usage on schema todo_api to app;
      ${all} all tables in schema todo_api to app;
      revoke select on todo_api.epoch from app;
      revoke update, delete on todo_api.tasks from app`)
    const { said, lines, took } = await refusal(urlOf(database))
    expect(said).toBe(
      'DATABASE_URL: the role app lacks rights. Let the owner of the schema and its tables run: ' +
        `grant execute on function ${functions} to app; grant select on todo_api.epoch to app; grant update, delete on todo_api.tasks to app;`,
    )
    expect(lines).toHaveLength(1)
    expect(took).toBeLessThan(atOnce)
    await admin.unsafe(said.split(' run: ')[1]!)
    const [others] = await admin`
      select array_agg(relname::text) as names from pg_class
      where relnamespace = 'todo_api'::regnamespace and relkind = 'r'
        and not has_table_privilege('app', oid, 'select')`
    expect(others).toEqual({ names: null })
    // What somebody else keeps there is nobody's business.
    await admin.unsafe(`
      create table todo_api.tasks_backup as table todo_api.tasks;
      create function todo_api.of_somebody() returns int language sql as 'select 1';
      revoke execute on function todo_api.of_somebody() from public`)

    const server = await startServer(urlOf(database))
    const { token } = await newUser()
    const created = await server.request<{ id: number }>('POST', '/api/tasks', {
      token,
      json: { title: 'Mine' },
    })
    expect(created.status).toBe(201)
    const path = `/api/tasks/${created.body.id}?permanent=true`
    expect((await server.request('DELETE', path, { token })).status).toBe(204)
    expect((await server.request('POST', '/api/tasks/events/ticket', { token })).status).toBe(201)
    await server.end()

    await admin`delete from todo_api.schema_migrations where name = (select max(name) from todo_api.schema_migrations)`
    await admin`revoke insert on todo_api.schema_migrations from app`
    expect((await refusal(urlOf(database))).said).toMatch(
      /^Migration \w+ failed and was rolled back: permission denied for table schema_migrations \(SQLSTATE 42501\)\. The role app of DATABASE_URL lacks a right/,
    )
    await admin.end({ timeout: 1 })
  })

  test.each([
    ['', postgres, 'sslmode=require', '42501'],
    [' by PgBouncer', pooler, 'sslmode=require&prepare=false', '08P01'],
  ])('is told at once that it may not connect%s', async (_, place, parameters, sqlState) => {
    const database = await postgres.createDatabase()
    await postgres.admin.unsafe(`revoke connect on database ${database} from public, ${owner.name}`)
    const { said, lines, took } = await refusal(databaseUrl({ ...place, database }, parameters))
    expect(said).toBe(
      `DATABASE_URL: permission denied for database "${database}" (SQLSTATE ${sqlState}). The role ${owner.name} lacks the right to connect. Let the owner of the database run: grant connect on database ${database} to ${owner.name}.`,
    )
    expect(lines).toHaveLength(1)
    expect(took).toBeLessThan(atOnce)
  })
})

describe('a database setting that is in the way is named:', () => {
  test('default_transaction_read_only, at the start and with the writes that it refuses', async () => {
    const database = await postgres.createDatabase()
    await postgres.admin.unsafe(`alter database ${database} set default_transaction_read_only = on`)
    const server = await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))
    const told = async () => server.linesWith(/^default_transaction_read_only is on, .* reset/)
    expect(await told()).toHaveLength(1)
    const { token } = await newUser()
    const write = async () =>
      (await server.request('POST', '/api/tasks', { token, json: { title: 'Mine' } })).status
    expect(await Promise.all(Array.from({ length: 20 }, write))).toEqual(
      Array.from({ length: 20 }, () => 503),
    )
    await eventually('it is told again', async () => (await told()).length === 2)
    await postgres.admin.unsafe(`alter database ${database} reset default_transaction_read_only`)
    await eventually('it writes', async () => (await write()) === 201)
    await server.end()
  })

  test('statement_timeout, while the server waits', async () => {
    const database = await postgres.createDatabase()
    const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
    await (await startServer(url)).end()
    await postgres.admin.unsafe(`alter database ${database} set statement_timeout = 200`)
    const admin = postgres.connectAsSuperuser(database)
    const session = await admin.reserve()
    await session`begin`
    await session`lock table todo_api.schema_migrations in access exclusive mode`
    const server = spawnServer(url)
    await server.logged(
      'The database does not answer yet, trying again: SQLSTATE 57014 in ProcessInterrupts. Is statement_timeout too short, for this role or this database?',
    )
    await session`rollback`
    session.release()
    await admin.end()
    await server.logged('listening')
    await server.end()
  })
})
