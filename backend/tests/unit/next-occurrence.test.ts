import { expect, test } from 'bun:test'
import { RRuleTemporal } from 'rrule-temporal'
import { readRule } from '../../recurrence/rule.ts'
import { database } from '../support/api.ts'
import { createRandom } from '../support/random.ts'

const seed = Number(process.env['RULES_SEED'] ?? crypto.getRandomValues(new Uint32Array(1))[0])
const next = createRandom(seed)
const oneOf = <Value>(values: readonly Value[]): Value => values[next(values.length)]!
const someOf = <Value>(values: readonly Value[], most: number): Value[] =>
  values.toSorted(() => next(3) - 1).slice(0, 1 + next(most))
const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, at) => from + at)

const weekdays = ['MO', 'TU', 'WE', 'TH', 'FR', 'SA', 'SU']
const months = numbers(1, 12)
const monthDays = [...numbers(1, 28), ...numbers(-28, -1)]
const seldom = () => next(4) === 0

/** Only rules that the oracle reads as they are meant here; the test below has the rest. */
function randomRule(): string {
  const frequency = oneOf(['DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY'])
  const byMonth = seldom() ? `BYMONTH=${someOf(months, 3).join(',')}` : ''
  const byMonthDay =
    frequency !== 'WEEKLY' && seldom() ? `BYMONTHDAY=${someOf(monthDays, 4).join(',')}` : ''
  const takesNumbers = frequency === 'MONTHLY' || (frequency === 'YEARLY' && byMonth !== '')
  const days = someOf(weekdays, 3).map((day) =>
    takesNumbers && next(2) === 0 ? `${oneOf([1, 2, 3, 4, 5, -1, -2, -5])}${day}` : day,
  )
  const byDay = next(2) === 0 ? `BYDAY=${days.join(',')}` : ''
  const interval = next(2) === 0 ? `INTERVAL=${oneOf([2, 3, 4, 5, 7, 12, 30, 52])}` : ''
  const until = seldom() ? `UNTIL=${randomDate(2030).replaceAll('-', '')}` : ''
  return [`FREQ=${frequency}`, interval, byDay, byMonthDay, byMonth, until]
    .filter(Boolean)
    .join(';')
}

function randomDate(year: number): string {
  return Temporal.PlainDate.from({ year, month: 1, day: 1 })
    .add({ days: next(1500) })
    .toString()
}

/** The dates after the first that rrule-temporal gives: so many at most, and none after 2059. */
function oracle(rule: string, start: string, most: number): string[] {
  const dates: string[] = []
  const series = new RRuleTemporal({
    rruleString: `DTSTART;VALUE=DATE:${start.replaceAll('-', '')}\nRRULE:RSCALE=GREGORIAN;SKIP=BACKWARD;${rule}`,
    maxIterations: 15_000, // days, until 2060
  })
  try {
    series.all((date) => {
      const day = date.toString().slice(0, 10)
      if (day > '2060') return false
      if (day > start) dates.push(day)
      return dates.length < most
    })
  } catch (error) {
    if (!String(error).includes('Maximum iterations')) throw error
  }
  return dates
}

/** The same by PostgreSQL, each date from the one before. */
async function chains(rules: [rule: string, start: string][], most: number): Promise<string[][]> {
  const input = JSON.stringify(rules.map(([rule, start], place) => ({ place, rule, start })))
  const rows = await database.query<{ dates: string[] }>`
    with recursive chain as (
      select place, rule, start, start as day, 0 as number
      from json_to_recordset(${input}::text::json) as input (place int, rule text, start date)
      union all
      select place, rule, start, todo_api.next_occurrence(rule, start, day), number + 1
      from chain where number < ${most}::int and day is not null
    )
    select json_agg(day order by number) filter (where number > 0 and day < '2060-01-01') as dates
    from chain group by place order by place`
  return rows.map(({ dates }) => dates ?? [])
}

test('PostgreSQL finds the dates that rrule-temporal finds, of random rules', async () => {
  const rules: [string, string][] = []
  while (rules.length < 300) {
    try {
      rules.push([readRule(randomRule()), randomDate(2024)])
    } catch {
      // It never comes.
    }
  }
  const found = await chains(rules, 6)
  for (const [index, [rule, start]] of rules.entries())
    expect([seed, rule, start, found[index]]).toEqual([seed, rule, start, oracle(rule, start, 6)])
})

/** If a rule by months names a day, rrule-temporal leaves out the months that do not have it. */
test.each(['29', '30', '31', '-29', '-30', '-31'])(
  'a month without day %s has its last one instead, by days, months and years',
  async (day) => {
    const start = '2026-01-29'
    const expected = oracle(`FREQ=YEARLY;BYMONTHDAY=${day}`, start, 30)
    const rules = ['DAILY', 'MONTHLY', 'YEARLY'].map((frequency): [string, string] => [
      `FREQ=${frequency};BYMONTHDAY=${day}`,
      start,
    ])
    expect(await chains(rules, 30)).toEqual([expected, expected, expected])
  },
)

test.each([
  ['FREQ=DAILY;INTERVAL=7;BYDAY=TU', '2026-11-23'],
  ['FREQ=DAILY;INTERVAL=773;BYDAY=MO;BYMONTHDAY=31;BYMONTH=1', '2026-11-22'],
  ['FREQ=MONTHLY;INTERVAL=2;BYMONTH=1,3,5,7,9,11', '2026-12-22'],
  ['FREQ=MONTHLY;INTERVAL=12;BYDAY=5MO,5TU;BYMONTH=2', '2027-11-22'],
  ['FREQ=YEARLY;INTERVAL=2;BYDAY=5MO;BYMONTH=2', '2027-11-22'],
  ['FREQ=DAILY;UNTIL=20261121', '2026-11-22'],
])('%s from %s never comes', async (rule, start) => {
  expect(readRule(rule)).toBe(rule)
  const [found] =
    await database.query`select todo_api.next_occurrence(${rule}, ${start}::date, ${start}::date) as day`
  expect(found).toEqual({ day: null })
})

test.each([
  ['FREQ=YEARLY;INTERVAL=401', '2026-11-21', '2427-11-21'],
  ['FREQ=YEARLY;INTERVAL=999', '2026-11-21', '3025-11-21'],
  ['FREQ=YEARLY;INTERVAL=500;BYMONTHDAY=1;BYMONTH=3', '2026-11-21', '2526-03-01'],
  ['FREQ=YEARLY;INTERVAL=7;BYDAY=5TH;BYMONTH=2', '2026-02-01', '2712-02-29'],
  ['FREQ=MONTHLY;INTERVAL=999;BYDAY=5SA;BYMONTH=2', '2026-02-01', '8020-02-29'],
])('%s from %s comes at last, on %s', async (rule, start, expected) => {
  expect(readRule(rule)).toBe(rule)
  const [found] =
    await database.query`select todo_api.next_occurrence(${rule}, ${start}::date, ${start}::date)::text as day`
  expect(found).toEqual({ day: expected })
})

test.each(['DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY'])(
  '%s comes again with every interval, from every age',
  async (frequency) => {
    const found = await database.query`
      select interval, start::text from generate_series(1, 999) as interval,
        unnest(array['0001-01-01', '2026-12-01', '4277-12-10', '9000-01-01']::date[]) as start
      where todo_api.next_occurrence(
        'FREQ=' || ${frequency}::text || ';INTERVAL=' || interval, start, start
      ) is null`
    expect(found).toEqual([])
  },
)
