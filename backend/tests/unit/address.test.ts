import { describe, expect, test } from 'bun:test'
import { parseDatabaseUrl } from '../../db/address.ts'

const neon =
  'postgresql://neondb_owner:p%40ss@ep-quiet-lake-a1b2c3-pooler.eu-central-1.aws.neon.tech/neondb'

test('a URL as Neon’s console gives it is understood, its certificate verified', () => {
  const address = parseDatabaseUrl(`${neon}?sslmode=require&channel_binding=require`)
  const { tls, ...rest } = address
  expect(rest).toEqual({
    host: 'ep-quiet-lake-a1b2c3-pooler.eu-central-1.aws.neon.tech',
    port: 5432,
    database: 'neondb',
    username: 'neondb_owner',
    password: 'p@ss',
    prepare: true,
    maxConnections: 10,
    startup: { application_name: 'todo-api' },
  })
  expect(tls).toMatchObject({ rejectUnauthorized: true, servername: rest.host })
})

describe('sslmode', () => {
  test.each([
    ['', 'prefer'],
    ['?sslmode=prefer', 'prefer'],
    ['?sslmode=allow', 'prefer'],
    ['?sslmode=disable', false],
  ])('%p is %p', (parameters, tls) => {
    expect(parseDatabaseUrl(`${neon}${parameters}`).tls).toEqual(tls as never)
  })

  test.each([
    ['?sslmode=require', false],
    ['?sslmode=require&channel_binding=prefer', false],
    ['?sslmode=verify-ca', true],
    ['?sslmode=verify-full', true],
    ['?channel_binding=require', true],
    ['?sslmode=verify-full&sslrootcert=system', true],
  ])('%p verifies the certificate: %p', (parameters, rejectUnauthorized) => {
    expect(parseDatabaseUrl(`${neon}${parameters}`).tls).toMatchObject({ rejectUnauthorized })
  })

  test('an address is not sent as a name', () => {
    expect(parseDatabaseUrl('postgres://u:p@127.0.0.1/d?sslmode=require').tls).not.toHaveProperty(
      'servername',
    )
  })
})

test('what postgres.js would send on to the server as settings is left out', () => {
  const url = `${neon}?max=5&prepare=false&pgbouncer=true&connection_limit=1&schema=public&application_name=mine&options=endpoint%3Dx`
  expect(parseDatabaseUrl(url)).toMatchObject({
    maxConnections: 5,
    prepare: false,
    startup: { application_name: 'mine', options: 'endpoint=x' },
  })
  expect(Object.keys(parseDatabaseUrl(url).startup)).toEqual(['application_name', 'options'])
})

test('IPv6, a port, and a database named after its user', () => {
  expect(parseDatabaseUrl('postgres://me@[::1]:6543')).toMatchObject({
    host: '::1',
    port: 6543,
    database: 'me',
    username: 'me',
    password: '',
  })
})

test.each([
  ['postgres://u:hunter2#x@h/d', 'must be a connection string'],
  ['postgres://u:12#hunter2@h/d', 'has a raw @ or # after its host'],
  ['postgres://u:p@hunter2#x@h/d', 'has a raw @ or # after its host'],
  ['postgres://u:p@hunter2/x@h/d', 'has a raw @ or # after its host'],
  ['postgres://u:p@hunter2?x@h/d', 'has a raw @ or # after its host'],
])('the password in %p has made a host of its own: it says what to write', (url, start) => {
  expect(() => parseDatabaseUrl(url)).toThrow(start)
  try {
    parseDatabaseUrl(url)
  } catch (error) {
    expect(String(error)).toContain('write @ as %40, # as %23')
    expect(String(error)).not.toContain('hunter2')
  }
})

test('an @ in the password is one, and in a parameter, too', () => {
  expect(parseDatabaseUrl('postgres://u:p@ss@h/d?application_name=api@web')).toMatchObject({
    host: 'h',
    password: 'p@ss',
    startup: { application_name: 'api@web' },
  })
})

test.each([
  ['', 'must be a connection string'],
  ['hunter2', 'must be a connection string'],
  ['https://u:hunter2@h/d', 'must be a connection string'],
  ['postgres:///d', 'must be a connection string'],
  ['postgres://h/d', 'names no user'],
  ['postgres://u:hunter2%@h/d', 'has a %'],
  ['postgres://u:hunter2@h/d?sslmode=hunter2', 'has an sslmode'],
  ['postgres://u:hunter2@h/d?prepare=hunter2', 'has a prepare'],
  ['postgres://u:hunter2@h/d?max=hunter2', 'has a max'],
  ['postgres://u:hunter2@h/d?max=0', 'has a max'],
  ['postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/hunter2', 'has an sslrootcert'],
])('%p is refused without repeating it', (url, start) => {
  expect(() => parseDatabaseUrl(url)).toThrow(start)
  try {
    parseDatabaseUrl(url)
  } catch (error) {
    expect(String(error)).not.toContain('hunter2')
  }
})
