import { afterAll, describe, expect, test } from 'bun:test'
import { connect } from '../../db/pool.ts'
import { parseDatabaseUrl } from '../../db/address.ts'
import { migrations } from '../../db/migrate.ts'
import { newUser } from '../support/api.ts'
import { startPgBouncer } from '../support/pgbouncer.ts'
import { databaseUrl, owner, startPostgres } from '../support/postgres.ts'
import { spawnServer, startServer } from '../support/server.ts'

const postgres = await startPostgres()
const pooler = await startPgBouncer(postgres)
afterAll(async () => {
  await pooler.close()
  await postgres.close()
})

type Task = { id: number; title: string; priority: string }

describe('tables of somebody else', () => {
  // As SQLModel makes them of the models of a course's FastAPI back end, next to Better Auth's.
  const foreign = `
    create type task_priority as enum ('low', 'urgent');
    create table "user" (id varchar primary key, email varchar not null unique);
    create table tasks (
      id serial primary key,
      user_id varchar not null references "user" (id),
      title varchar(200) not null,
      description varchar(1000),
      completed boolean not null,
      created_at timestamp not null,
      updated_at timestamp not null
    );
    create index ix_tasks_user_id on tasks (user_id);
    insert into "user" values ('alice', 'alice@example.com');
    insert into tasks (user_id, title, completed, created_at, updated_at)
    values ('alice', 'Of the other program', false, now(), now())`

  test.each([
    ['', ''],
    [
      ', and a record of migrations of another tool',
      `create table schema_migrations (version varchar primary key);
       insert into schema_migrations values ('20260101000000')`,
    ],
    [
      ', and a record of migrations of the shape of ours',
      `create table schema_migrations (name text primary key, applied_at timestamptz);
       insert into schema_migrations values ('0001_init', now())`,
    ],
    [
      ', and such a record with the name of our first migration',
      `create table schema_migrations (name text primary key, applied_at timestamptz);
       insert into schema_migrations values ('0001_tasks', now())`,
    ],
  ])('of our names%s stay as they are', async (_, record) => {
    const database = await postgres.createDatabase()
    const admin = postgres.connectAsSuperuser(database)
    await admin.unsafe(`set role ${owner.name}; ${foreign}; ${record}; reset role`)
    const look = async () => admin`
      select tasks.*, tasks.ctid::text, tasks.xmin::text, 'tasks'::regclass::oid from public.tasks`
    const before = await look()

    const server = await startServer(databaseUrl({ ...pooler, database }, 'prepare=false'))
    const { token } = await newUser()
    const json = { title: 'Of ours', priority: 'medium' }
    expect((await server.request('POST', '/api/tasks', { token, json })).status).toBe(201)
    const listed = await server.request<Task[]>('GET', '/api/tasks?priority=medium', { token })
    expect(listed.body).toMatchObject([json])
    await server.end()
    expect(await look()).toEqual(before)
    expect(await admin`select title from todo_api.tasks`).toMatchObject([{ title: 'Of ours' }])
    await admin.end({ timeout: 1 })
  })
})

describe('our tables from the version before, which named no schema', () => {
  const released = migrations.slice(0, 3)

  /** A database as that version leaves it, and a role that may only read and write. */
  async function formerDatabase(schema: string) {
    const database = await postgres.createDatabase()
    const admin = postgres.connectAsSuperuser(database)
    const reader = `app_${database}`
    await admin.unsafe(`create role ${reader} login password 'of the app'`)
    await admin.unsafe(`
      create schema if not exists ${schema};
      grant all on schema ${schema} to ${owner.name};
      grant usage on schema ${schema} to ${reader};
      alter role ${owner.name} in database ${database} set search_path = ${schema};
      alter role ${reader} in database ${database} set search_path = ${schema};
      set role ${owner.name};
      set search_path = ${schema};
      alter default privileges in schema ${schema} grant select, insert, update, delete on tables to ${reader};
      create table schema_migrations (name text primary key, applied_at timestamptz not null default now());
      ${released.map(({ name, sql }) => `${sql}; insert into schema_migrations (name) values ('${name}')`).join(';')};
      reset search_path;
      reset role`)
    const former = connect(
      parseDatabaseUrl(
        databaseUrl({ ...postgres, database }, 'sslmode=require', 'of the app').replace(
          owner.name,
          reader,
        ),
      ),
    )
    return { database, admin, former, reader }
  }

  test.each(['public', 'elsewhere'])(
    'are moved out of %s, with what is in them and who may use them',
    async (schema) => {
      const { database, admin, former, reader } = await formerDatabase(schema)
      const { id: user, token } = await newUser()
      const looker = `looker_${database}`
      await admin.unsafe(`
        create role ${looker};
        grant usage on schema ${schema} to ${looker};
        grant select (id, title) on ${schema}.tasks to ${looker};
        grant select on ${schema}.task_lists to ${looker} with grant option`)
      await former.query`insert into task_lists (user_id, counter, task_count) values (${user}, 1, 1)`
      await former.query`insert into tasks (user_id, title, change, priority) values (${user}, 'Kept', 1, 'high')`
      // Two at once, as two servers that start.
      const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
      const [server, other] = await Promise.all([startServer(url), startServer(url)])
      await other.end()
      const list = async () => (await server.request<Task[]>('GET', '/api/tasks', { token })).body
      expect(await list()).toMatchObject([{ id: 1, title: 'Kept', priority: 'high' }])
      await server.request('POST', '/api/tasks', { token, json: { title: 'New' } })
      expect(await list()).toMatchObject([{ id: 1 }, { id: 2, title: 'New' }])

      // A role that may only read and write needs nothing more than before.
      const limited = await startServer(
        databaseUrl({ ...postgres, database }, 'sslmode=require', 'of the app').replace(
          owner.name,
          reader,
        ),
      )
      const json = { title: 'Of the limited role' }
      expect((await limited.request('POST', '/api/tasks', { token, json })).status).toBe(201)
      await limited.end()
      await server.end()
      for (const place of [schema, 'todo_api']) {
        const [mayLook] = await admin`
          select
            has_schema_privilege(${looker}, ${place}, 'usage') as inside,
            has_column_privilege(${looker}, ${`${place}.tasks`}, 'title', 'select') as at_titles,
            has_column_privilege(${looker}, ${`${place}.tasks`}, 'description', 'select') as at_descriptions,
            has_table_privilege(${looker}, ${`${place}.task_lists`}, 'select with grant option') as for_others`
        const wanted = { inside: true, at_titles: true, at_descriptions: false, for_others: true }
        expect({ place, ...mayLook }).toEqual({ place, ...wanted })
      }
      expect(
        await admin`
          select relname from pg_class
          where relnamespace = ${schema}::regnamespace and relkind in ('r', 'S', 'i', 'p')`,
      ).toHaveLength(0)
      await former.close()
      await admin.end({ timeout: 1 })
    },
  )

  test('take what servers of that version write, read and purge under the old names', async () => {
    const { database, admin, former } = await formerDatabase('public')
    const query = former.queryFor('alice')
    const upsert = async () =>
      query`
        insert into task_lists as list (user_id, counter, task_count) values ('alice', 1, 1)
        on conflict (user_id) do update
          set counter = list.counter + 1, task_count = list.task_count + 1
          where list.task_count < ${10}
        returning counter`
    const create = async (title: string, priority: string) =>
      query<Task>`
        insert into tasks (user_id, change, title, priority, due_date, due_time, due_timezone)
        select 'alice', counter, ${title}, ${priority}::task_priority, '2026-07-01', '09:30', 'Europe/Paris'
        from task_lists where user_id = 'alice'
        returning *`
    const byPriority = async () =>
      query<Task>`
        select id, title from tasks where user_id = 'alice' and priority = ${'high'}::task_priority
          and (priority, id) > (${'low'}::text::task_priority, ${0}::bigint)
        order by priority, id`
    await upsert()
    await create('First', 'high')
    expect(await byPriority()).toMatchObject([{ title: 'First' }])
    // Those statements are prepared on its connections while the tables move.
    const server = await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))
    expect(await upsert()).toEqual([{ counter: 3 }]) // 0004_recount has counted, too
    expect(await create('Second', 'high')).toMatchObject([{ id: 2, version: 1 }])
    expect(await byPriority()).toMatchObject([{ title: 'First' }, { title: 'Second' }])
    expect(
      await query`
        with target as (select id from tasks where user_id = 'alice' and id = 1 for update)
        update tasks set title = 'Changed', version = version + 1
        from target where tasks.user_id = 'alice' and tasks.id = target.id
        returning tasks.title, tasks.version`,
    ).toEqual([{ title: 'Changed', version: 2 }])
    await query`
      insert into idempotency_keys (user_id, key, request, status, task_id, created_at)
      values ('alice', 'old', '', 200, 1, now() - interval '2 days'), ('alice', 'new', '', 200, 1, now())`
    await query`
      delete from idempotency_keys where ctid in (
        select ctid from idempotency_keys where created_at < now() - interval '24 hours'
        limit 1000 for update skip locked
      )`
    expect(await query`select key from idempotency_keys`).toEqual([{ key: 'new' }])
    await expect(
      query`insert into idempotency_keys (user_id, key, request, status, task_id) values ('alice', 'new', '', 200, 1)`,
    ).rejects.toMatchObject({ constraint: 'idempotency_keys_pkey' })
    await former.close()

    // When none of them is left, what the documentation says to run leaves nothing of ours outside.
    const operations = await Bun.file('docs/operations.md').text()
    await admin.unsafe(/```sql\n(drop view [^`]*)```/.exec(operations)![1]!)
    await admin.unsafe('drop schema public cascade')
    const { token } = await newUser()
    const json = { title: 'New', priority: 'high' }
    expect((await server.request('POST', '/api/tasks', { token, json })).status).toBe(201)
    const listed = await server.request<Task[]>('GET', '/api/tasks?priority=high', { token })
    expect(listed.body).toMatchObject([json])
    await server.end()
    await (await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))).end()
    await admin.end({ timeout: 1 })
  })

  const copiesIn = (schema: string) =>
    ['schema_migrations', 'tasks']
      .map((name) => `create table ${schema}.${name} (like ${name} including all)`)
      .join(';')

  test.each([
    [
      'that another role than their owner starts on',
      'alter database %database owner to postgres; grant create on database %database to %reader; revoke select on schema_migrations from %reader',
      'reader',
      'an older version left its tables in the schema public. They belong to neondb_owner, and %reader may not move them. ' +
        'To move them, neondb_owner needs more rights. Let whoever may give them run: grant create on database %database to neondb_owner; Start one server with the role neondb_owner. ',
    ],
    [
      'that the search path does not lead to',
      `alter role ${owner.name} in database %database set search_path = ''`,
      'owner',
      'an older version left its tables in the schema public, to which the search path of neondb_owner does not lead. ' +
        'Run: alter role neondb_owner in database %database set search_path = public; Start again. ',
    ],
    [
      'that are in two schemas',
      `create schema another; ${copiesIn('another')}`,
      'owner',
      'older versions left their tables in several schemas, another and public, and only one can be served. ',
    ],
  ])(
    '%s are not passed over, and the message says what to do',
    async (_, change, role, problem) => {
      const { database, admin, former, reader } = await formerDatabase('public')
      const fill = (text: string) =>
        text.replaceAll('%database', database).replaceAll('%reader', reader)
      await former.query`insert into tasks (user_id, title) values ('alice', 'Kept')`
      await admin.unsafe(fill(change))
      const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
      const limited = databaseUrl(
        { ...postgres, database },
        'sslmode=require',
        'of the app',
      ).replace(owner.name, reader)
      const refused = spawnServer(role === 'reader' ? limited : url)
      expect(await refused.exited).toBe(1)
      const said = (await refused.wholeLog()).at(-1)!.msg!
      const leave = 'Or, if they are not to be served, rename their table schema_migrations.'
      const leaveOne = 'Rename the table schema_migrations of those that are not to be.'
      expect(said).toBe(
        `DATABASE_URL: ${fill(problem)}${problem.includes('several') ? leaveOne : leave}`,
      )
      expect(await admin`select from pg_namespace where nspname = 'todo_api'`).toHaveLength(0)
      expect(await former.query`select title from tasks`).toEqual([{ title: 'Kept' }])
      const [, statement] = /[Rr]un: (.*;)/.exec(said) ?? []
      await admin.unsafe(statement ?? 'alter table another.schema_migrations rename to set_aside')
      await (await startServer(url)).end()
      expect(await admin`select title from todo_api.tasks`).toMatchObject([{ title: 'Kept' }])
      await former.close()
      await admin.end({ timeout: 1 })
    },
  )

  test('are known from copies of them', async () => {
    const { database, admin, former } = await formerDatabase('public')
    await admin.unsafe(`
      create schema backup;
      create table backup.tasks as table tasks;
      create table backup.schema_migrations as table schema_migrations`)
    const session = await admin.reserve()
    await session.unsafe(copiesIn('pg_temp'))
    await (await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))).end()
    expect(await former.query`select from tasks`).toEqual([])
    session.release()
    await former.close()
    await admin.end({ timeout: 1 })
  })

  test('stay where they are while a foreign key needs their primary key, and the message names it', async () => {
    const { database, admin, former } = await formerDatabase('public')
    await admin.unsafe(
      'create table notes (owner text, task bigint, constraint of_task foreign key (task) references tasks)',
    )
    const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
    const refused = spawnServer(url)
    expect(await refused.exited).toBe(1)
    expect((await refused.wholeLog()).at(-1)!.msg).toBe(
      'DATABASE_URL: the primary keys of the tables in the schema public will begin with user_id, and something depends on them: ' +
        'constraint of_task on table notes. Drop it, and make it anew once a server has started: a foreign key needs the columns (user_id, id) of todo_api.tasks then.',
    )
    expect(await admin`select from pg_namespace where nspname = 'todo_api'`).toHaveLength(0)
    await admin.unsafe('alter table notes drop constraint of_task')
    await (await startServer(url)).end()
    await admin.unsafe('alter table notes add foreign key (owner, task) references todo_api.tasks')
    await former.close()
    await admin.end({ timeout: 1 })
  })

  test('stay where they are while they have what the move would lose, and the message names it', async () => {
    const { database, admin, former } = await formerDatabase('public')
    await admin.unsafe(`
      alter table tasks enable row level security;
      alter table tasks replica identity using index tasks_pkey`)
    const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
    const refused = spawnServer(url)
    expect(await refused.exited).toBe(1)
    expect((await refused.wholeLog()).at(-1)!.msg).toBe(
      'DATABASE_URL: the tables in the schema public cannot be moved with all that was set up for them: ' +
        'replica identity of tasks, row-level security of tasks. ' +
        'Write down how it was made, and the rights of the roles that row-level security restricts. Take both away, ' +
        'start a server, and give both back for the tables in todo_api. Give those roles no right to the views under the old names, which go past it.',
    )
    expect(await admin`select from pg_namespace where nspname = 'todo_api'`).toHaveLength(0)
    await admin.unsafe(`
      alter table tasks disable row level security;
      alter table tasks replica identity default`)
    await (await startServer(url)).end()
    await former.close()
    await admin.end({ timeout: 1 })
  })

  test('of which some were given to another role are named until that role has all of them', async () => {
    const { database, admin, former } = await formerDatabase('public')
    const other = `other_${database}`
    await admin.unsafe(`
      create role ${other};
      alter table deleted_tasks owner to ${other};
      alter function first_instant(timestamp, text) owner to ${other};
      create table epoch (of_another_program int);
      create function first_instant(int) returns int language sql as 'select 1';
      create function zone_name(text) returns text language sql as 'select 1';
      alter table schema_migrations add column applied_by text`)
    const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
    const refused = spawnServer(url)
    expect(await refused.exited).toBe(1)
    const { msg } = (await refused.wholeLog()).at(-1)!
    const statements = `alter table public.deleted_tasks owner to ${owner.name}; alter function public.first_instant(timestamp, text) owner to ${owner.name};`
    expect(msg).toBe(
      `DATABASE_URL: an older version left its tables in the schema public. To move them, ${owner.name} needs more rights. ` +
        `Let whoever may give them run: ${statements} Start again. Or, if they are not to be served, rename their table schema_migrations.`,
    )
    await admin.unsafe(statements)
    await (await startServer(url)).end()
    expect(await admin`select from public.epoch`).toHaveLength(0)
    await former.close()
    await admin.end({ timeout: 1 })
  })

  test('give nobody a right that was taken from them', async () => {
    const { database, admin, former, reader } = await formerDatabase('public')
    const anybody = `anybody_${database}`
    await admin.unsafe(`
      create role ${anybody};
      alter default privileges for role ${owner.name} in schema public grant all on tables to ${anybody}`)
    await (await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))).end()
    const may = async (role: string) => {
      const rows = await admin<{ schema: string; tables: number }[]>`
        select nspname as schema, count(*) filter (where has_table_privilege(${role}, pg_class.oid, 'select'))::int as tables
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname in ('public', 'todo_api') and relkind in ('r', 'v')
        group by nspname order by nspname`
      return rows.map(({ schema, tables }) => [schema, tables])
    }
    expect(await may(anybody)).toEqual([
      ['public', 0],
      ['todo_api', 0],
    ])
    expect(await may(reader)).toEqual([
      ['public', 6],
      ['todo_api', 9],
    ])
    await former.close()
    await admin.end({ timeout: 1 })
  })

  test('are told at every start if they are next to those that are served', async () => {
    const { database, admin, former } = await formerDatabase('elsewhere')
    const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
    await admin.unsafe(`alter table elsewhere.schema_migrations rename to record`)
    const first = await startServer(url)
    expect(first.linesWith(/^An older version/)).toHaveLength(0)
    await first.end()
    await admin.unsafe(`alter table elsewhere.record rename to schema_migrations`)
    const second = await startServer(url)
    expect(second.linesWith(/^An older version/).map(({ level, msg }) => ({ level, msg }))).toEqual(
      [
        {
          level: 40,
          msg:
            'An older version left its tables in the schema elsewhere, and what is in them is not served, since todo_api has tables, too. ' +
            'See "Tables that an older version left" in docs/operations.md. If they are not needed, rename their table schema_migrations.',
        },
      ],
    )
    await second.end()
    // As the documentation says.
    await admin.unsafe('drop schema todo_api cascade')
    const third = await startServer(url)
    expect(third.linesWith(/^An older version/)).toHaveLength(0)
    await third.end()
    await former.close()
    await admin.end({ timeout: 1 })
  })

  test('take the default rights to functions along', async () => {
    const { database, admin, former, reader } = await formerDatabase('public')
    await admin.unsafe(`
      alter default privileges for role ${owner.name} revoke execute on functions from public;
      alter default privileges for role ${owner.name} in schema public grant execute on functions to ${reader}`)
    await (await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'))).end()
    const [may] = await admin`
      select has_function_privilege(${reader}, 'todo_api.zone_name(text)', 'execute') as call`
    expect(may).toEqual({ call: true })
    await former.close()
    await admin.end({ timeout: 1 })
  })

  test('whose owner may make neither a schema nor views stay where they are, and the message says what to do', async () => {
    const { database, admin, former } = await formerDatabase('public')
    await admin.unsafe(`
      alter database ${database} owner to postgres;
      revoke all on schema public from public, ${owner.name}`)
    const url = databaseUrl({ ...postgres, database }, 'sslmode=require')
    const refused = spawnServer(url)
    expect(await refused.exited).toBe(1)
    expect((await refused.wholeLog()).at(-1)!.msg).toBe(
      `DATABASE_URL: an older version left its tables in the schema public. To move them, ${owner.name} needs more rights. ` +
        `Let whoever may give them run: grant create on database ${database} to ${owner.name}; grant usage, create on schema public to ${owner.name}; Start again. ` +
        'Or, if they are not to be served, rename their table schema_migrations.',
    )
    expect(await former.query`select from tasks`).toEqual([])
    // Or somebody who may makes it.
    await admin.unsafe(`
      create schema todo_api authorization ${owner.name};
      grant usage, create on schema public to ${owner.name}`)
    await (await startServer(url)).end()
    await former.close()
    await admin.end({ timeout: 1 })
  })
})
