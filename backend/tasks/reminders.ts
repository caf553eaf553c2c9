import { Kind, Type, TypeRegistry } from '@sinclair/typebox'
import { t } from 'elysia'
import { expectation, Instant, isInstant } from '../http/values.ts'

const mostReminders = 5
const mostMinutes = 28 * 24 * 60

const minutesBefore = Type.Integer({
  minimum: 0,
  maximum: mostMinutes,
  description: 'Before `due_at`; sleeps as long as the task has none',
  examples: [30],
})
const instant = t.String({ format: 'date-time', examples: ['2026-03-01T08:00:00.000Z'] })

/** When to remind of a task: so long before it is due, or at an instant. */
const Reminder = t.Union([t.Object({ minutes_before: minutesBefore }), t.Object({ at: instant })])
export type Reminder = typeof Reminder.static

/** The same for a body. From a union, Elysia would drop what is too much instead of refusing it. */
const GivenReminder = t.Object(
  { minutes_before: t.Optional(minutesBefore), at: t.Optional(instant) },
  { minProperties: 1, maxProperties: 1 },
)

const examples = [[{ minutes_before: 30 }]]

/** As an answer has them. */
export const Reminders = t.Array(Reminder, {
  description: 'When to remind: see the event `reminder.due`',
  examples,
})

TypeRegistry.Set('GivenReminders', (_, value) => {
  if (!Array.isArray(value) || value.length > mostReminders) return false
  const given: unknown[] = value
  if (!given.every(isReminder)) return false
  return new Set(given.map((each) => JSON.stringify(asKept(each)))).size === given.length
})

/** As a body has them. They are kept with instants in UTC, and without keys that are not known. */
export const GivenReminders = t
  .Transform(
    Type.Unsafe<Reminder[]>({
      [Kind]: 'GivenReminders',
      type: 'array',
      items: GivenReminder,
      maxItems: mostReminders,
      uniqueItems: true,
      description: `Up to ${mostReminders} different ones. One that is past when it is set does not come`,
      examples,
      [expectation]: `a list of up to ${mostReminders} distinct ones, each {"minutes_before": 0 to ${mostMinutes}} or {"at": an RFC 3339 instant}`,
    }),
  )
  .Decode((given) => given.map(asKept))
  .Encode((reminders) => reminders)

/** One instant, as some front ends send it: `remindersOf` says what it stands for. */
export const ReminderAt = t.Union([Instant({ description: 'An RFC 3339 instant' }), t.Null()], {
  description: 'Another spelling of `reminders`, which it overrides, for one of them or none',
  examples: ['2026-03-01T08:00:00.000Z'],
})

/** The reminders of a body. No answer has `reminder_at`: whoever sends it means it. */
export function remindersOf(given: {
  reminders?: Reminder[]
  reminder_at?: string | null
}): Reminder[] | undefined {
  const { reminders, reminder_at: at } = given
  if (at === undefined) return reminders
  return at === null ? [] : [asKept({ at })]
}

function isReminder(value: unknown): value is Reminder {
  if (typeof value !== 'object' || value === null) return false
  if ('minutes_before' in value) return !('at' in value) && isMinutes(value.minutes_before)
  return 'at' in value && typeof value.at === 'string' && isInstant(value.at)
}

function isMinutes(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= mostMinutes
}

function asKept(reminder: Reminder): Reminder {
  if ('minutes_before' in reminder) return { minutes_before: reminder.minutes_before }
  return { at: Temporal.Instant.from(reminder.at).toString({ fractionalSecondDigits: 3 }) }
}
