const frequencies = ['DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY'] as const
const weekdays = ['MO', 'TU', 'WE', 'TH', 'FR', 'SA', 'SU']
const lengthsOfMonths = [[31], [28, 29], [31], [30], [31], [30], [31], [31], [30], [31], [30], [31]]

/** The longest that a rule can be, however it is written. */
const longest = 1000

/** The text is no rule. The message says what a rule must be like, and repeats nothing of the text. */
export class NoRule extends Error {
  override readonly name = 'NoRule'
}

type Parts = Map<string, string>
type Weekday = { number: number; name: string }

/**
 * Reads a rule by which a task comes again: an RRULE without DTSTART (RFC 5545, 3.3.10). These parts are
 * known: FREQ by days, weeks, months or years, INTERVAL, BYDAY, BYMONTHDAY, BYMONTH, COUNT or UNTIL (a
 * date), and WKST=MO. `daily` and its like, a leading `RRULE:` and small letters are understood.
 *
 * @returns the same rule as every other spelling of it
 * @throws NoRule
 */
export function readRule(text: string): string {
  if (text.length > longest) throw new NoRule(`of ${longest} characters at most`)
  // Only letters of ASCII: there are others, such as ſ, that become one of these.
  const rule = text.replaceAll(/[a-z]+/g, (letters) => letters.toUpperCase()).replace(/^RRULE:/, '')
  const isWord = frequencies.some((frequency) => frequency === rule)
  const parts = partsOf(isWord ? `FREQ=${rule}` : rule)
  const frequency = frequencyOf(parts)
  const interval = numberOf(parts, 'INTERVAL', 999)
  const days = listOf(parts, 'BYDAY', readWeekday)
  const monthDays = listOf(parts, 'BYMONTHDAY', readMonthDay)
  const months = listOf(parts, 'BYMONTH', readMonth)
  const end = endOf(parts)

  const isNumbered = days?.some(({ number }) => number !== 0)
  if (isNumbered && frequency !== 'MONTHLY' && !(frequency === 'YEARLY' && months))
    throw new NoRule('with numbers in its BYDAY only if FREQ is MONTHLY, or YEARLY with BYMONTH')
  if (monthDays && frequency === 'WEEKLY') throw new NoRule('without BYMONTHDAY if FREQ is WEEKLY')
  expectDates(days, monthDays, months)

  return [
    `FREQ=${frequency}`,
    interval !== undefined && interval > 1 && `INTERVAL=${interval}`,
    days && `BYDAY=${days.map(({ number, name }) => `${number || ''}${name}`).join(',')}`,
    monthDays && `BYMONTHDAY=${monthDays.join(',')}`,
    months && `BYMONTH=${months.join(',')}`,
    end,
  ]
    .filter((part) => typeof part === 'string')
    .join(';')
}

const known = ['FREQ', 'INTERVAL', 'BYDAY', 'BYMONTHDAY', 'BYMONTH', 'COUNT', 'UNTIL', 'WKST']

function partsOf(rule: string): Parts {
  const parts: Parts = new Map()
  for (const part of rule.split(';')) {
    const [name = '', value, ...more] = part.split('=')
    if (!known.includes(name) || !value || more.length > 0)
      throw new NoRule(`made of ${known.join(', ')}, such as FREQ=WEEKLY;BYDAY=MO,TH`)
    if (parts.has(name)) throw new NoRule(`with ${name} once`)
    parts.set(name, value)
  }
  if ((parts.get('WKST') ?? 'MO') !== 'MO') throw new NoRule('with weeks that begin on MO')
  return parts
}

function frequencyOf(parts: Parts): (typeof frequencies)[number] {
  const frequency = frequencies.find((name) => name === parts.get('FREQ'))
  if (frequency === undefined)
    throw new NoRule(`with a FREQ that is one of ${frequencies.join(', ')}`)
  return frequency
}

function numberOf(parts: Parts, name: string, most: number): number | undefined {
  const value = parts.get(name)
  if (value === undefined) return undefined
  const number = /^\d{1,4}$/.test(value) ? Number(value) : 0
  if (number < 1 || number > most) throw new NoRule(`with ${name} from 1 to ${most}`)
  return number
}

/** `COUNT` or `UNTIL`, as it is written. */
function endOf(parts: Parts): string | undefined {
  const count = numberOf(parts, 'COUNT', 1000)
  const until = parts.get('UNTIL')
  if (until === undefined) return count === undefined ? undefined : `COUNT=${count}`
  if (count !== undefined) throw new NoRule('with COUNT or UNTIL, and not both')
  if (!isDate(until)) throw new NoRule('with an UNTIL that is a date, such as 20261231')
  return `UNTIL=${until}`
}

function isDate(text: string): boolean {
  if (!/^\d{8}$/.test(text) || text.startsWith('0000')) return false
  try {
    Temporal.PlainDate.from(text, { overflow: 'reject' })
    return true
  } catch {
    return false
  }
}

/** A list in the order of its numbers, each of them once. */
function listOf<Item>(
  parts: Parts,
  name: string,
  read: (text: string) => { item: Item; place: number },
): Item[] | undefined {
  const items = parts
    .get(name)
    ?.split(',')
    .map(read)
    .toSorted((one, other) => one.place - other.place)
  return items
    ?.filter(({ place }, index) => place !== items[index - 1]?.place)
    .map(({ item }) => item)
}

function readWeekday(text: string): { item: Weekday; place: number } {
  const [, sign, digit = '0', name = ''] = /^([+-]?)([1-5])?([A-Z]{2})$/.exec(text) ?? []
  const day = weekdays.indexOf(name)
  if (day === -1 || (sign !== '' && digit === '0'))
    throw new NoRule('with weekdays in its BYDAY, such as MO, 1MO or -1FR')
  const number = Number(`${sign}${digit}`)
  return { item: { number, name }, place: number * weekdays.length + day }
}

function readMonthDay(text: string): { item: number; place: number } {
  const day = /^[+-]?\d\d?$/.test(text) ? Number(text) : 0
  if (day === 0 || Math.abs(day) > 31)
    throw new NoRule('with days in its BYMONTHDAY, from 1 to 31 or from -31 to -1')
  return { item: day, place: day }
}

function readMonth(text: string): { item: number; place: number } {
  const month = /^\d\d?$/.test(text) ? Number(text) : 0
  if (month < 1 || month > 12) throw new NoRule('with months in its BYMONTH, from 1 to 12')
  return { item: month, place: month }
}

/**
 * Refuses days that no month has, because PostgreSQL would search long for a date that never comes. The other
 * rules that never come it finds by itself, from the date on which they start.
 */
function expectDates(
  days: Weekday[] | undefined,
  monthDays: number[] | undefined,
  months: number[] | undefined,
): void {
  if (monthDays === undefined) return
  const lengths = (months ?? [1, 2, 4]).flatMap((month) => lengthsOfMonths[month - 1]!)
  if (monthDays.every((day) => Math.abs(day) > Math.max(...lengths)))
    throw new NoRule('that comes at all: none of its months has these days')
  if (days === undefined || days.some(({ number }) => number === 0)) return
  const meets = lengths.some((length) =>
    monthDays.some((monthDay) => {
      const day = Math.abs(monthDay) > length ? length : (monthDay + length + 1) % (length + 1)
      const numbers = [Math.ceil(day / 7), -Math.ceil((length + 1 - day) / 7)]
      return days.some(({ number }) => numbers.includes(number))
    }),
  )
  if (!meets) throw new NoRule('that comes at all: its BYMONTHDAY is never such a BYDAY')
}
