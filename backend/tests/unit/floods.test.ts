import { beforeAll, describe, expect, test } from 'bun:test'
import { withSessions } from '../../auth/sessions.ts'
import { TokenError } from '../../auth/tokens.ts'
import { createSecret } from '../../keys/secret.ts'
import { createKeyStore } from '../../keys/store.ts'
import { createKeyVerifier } from '../../keys/verifier.ts'
import { createTickets } from '../../sync/tickets.ts'
import { database, newUser, secret } from '../support/api.ts'

const flood = 600 // more than one user may have waiting
const names = Array.from({ length: flood }, () => crypto.randomUUID())

/** Counts those that were refused, and gives the error of each. */
function ask(look: (name: string) => Promise<unknown>) {
  const asked = { answered: 0, all: Promise.resolve<unknown[]>([]) }
  asked.all = Promise.all(
    names.map(async (name) =>
      look(name).catch((error: unknown) => {
        asked.answered += 1
        return error
      }),
    ),
  )
  return asked
}

describe('a flood of session tokens', () => {
  const table = { table: 'flooded_sessions', token: 'token', expires: 'expires', user: 'user' }
  const tokens = { alice: `alice-${crypto.randomUUID()}`, bob: `bob-${crypto.randomUUID()}` }
  beforeAll(async () => {
    await database.script(
      `drop table if exists flooded_sessions;
       create table flooded_sessions (token text unique, expires timestamptz, "user" text);
       insert into flooded_sessions values
         ('${tokens.alice}', now() + interval '1 day', 'alice'),
         ('${tokens.bob}', now() + interval '1 day', 'bob')`,
      5_000,
    )
  })

  test('keeps nobody waiting whose session was seen before, and nobody out who is new', async () => {
    let time = Date.now()
    const verify = withSessions(
      async () => Promise.reject(new Error('no JWT')),
      database,
      { sessions: table, secret },
      () => time,
    )
    expect(await verify(tokens.alice)).toMatchObject({ userId: 'alice' })
    time += 31_000 // it is looked up again
    const strangers = ask(verify)
    const bob = verify(tokens.bob)
    expect(await verify(tokens.alice)).toMatchObject({ userId: 'alice' })
    expect(strangers.answered).toBeLessThan(flood)
    expect(await bob).toMatchObject({ userId: 'bob' })
    const refusals = await strangers.all
    expect(refusals.filter((error) => !(error instanceof TokenError))).toEqual([])
  })

  test('is looked up once if it is the same token every time', async () => {
    let statements = 0
    const counting: typeof database.queryWithin = (...limits) => {
      statements += 1
      return database.queryWithin(...limits)
    }
    const verify = withSessions(
      async () => Promise.reject(new Error('no JWT')),
      { ...database, queryWithin: counting },
      { sessions: table, secret },
    )
    const answers = await Promise.all(names.map(async () => verify(tokens.bob)))
    expect(answers.filter(({ userId }) => userId === 'bob')).toHaveLength(flood)
    expect(statements).toBe(1)
  })
})

test('a flood of made-up keys keeps nobody waiting whose key was good before', async () => {
  const { verifyKey } = createKeyVerifier(database)
  const { id } = await newUser()
  const { key } = await createKeyStore(database).create(id, { name: 'x', scope: 'read' })
  expect(await verifyKey(key)).toMatchObject({ userId: id })
  const strangers = ask(async () => verifyKey(createSecret().key))
  // Many at once belong to one user, and none of them waits for a stranger.
  const good = await Promise.all(Array.from({ length: 100 }, async () => verifyKey(key)))
  expect(good.every(({ userId }) => userId === id)).toBe(true)
  expect(strangers.answered).toBeLessThan(flood)
  const refusals = await strangers.all
  expect(refusals.filter((error) => !(error instanceof TokenError))).toEqual([])
})

describe('a flood of unknown tickets', () => {
  test.each(['redeem', 'look'] as const)('to %s lets in who has one', async (use) => {
    const tickets = createTickets(database, createKeyVerifier(database))
    const { id } = await newUser()
    const expires = Math.floor(Date.now() / 1000) + 600
    const ticket = await tickets.issue({ userId: id, expires })
    const strangers = ask(tickets[use])
    expect(await tickets[use](ticket)).toEqual({ userId: id, expires })
    for (const refusal of await strangers.all) expect(refusal).toBeInstanceOf(TokenError)
  })
})

test('a ticket that is used twice at the same moment is good once', async () => {
  const tickets = createTickets(database, createKeyVerifier(database))
  const { id } = await newUser()
  const ticket = await tickets.issue({ userId: id, expires: 1_900_000_000 })
  // Another is looked up first, so that these wait together for the next statement.
  const other = tickets.redeem('made up').catch(() => {})
  const uses = await Promise.allSettled(
    Array.from({ length: 20 }, async () => tickets.redeem(ticket)),
  )
  await other
  expect(uses.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
})
