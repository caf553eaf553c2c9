import { Type } from '@sinclair/typebox'
import { t } from 'elysia'
import {
  CalendarDate,
  OneOf,
  CalendarDateOrInstant,
  DecimalText,
  DistinctTexts,
  expectation,
  isInstant,
  spelling,
  Text,
  TextOrTexts,
  TimeZone,
  TrimmedText,
  YesOrNo,
} from '../http/values.ts'
import { readRule } from '../recurrence/rule.ts'
import { RecurrenceRule } from '../recurrence/schema.ts'
import { GivenReminders, ReminderAt, Reminders } from './reminders.ts'

const title = TrimmedText({
  minLength: 1,
  maxLength: 200,
  description:
    'White space around it is removed. 1 to 200 Unicode characters, none of them a control character but tab, line feed and carriage return',
  examples: ['Buy milk'],
})
const description = t.Union([Text({ maxLength: 1000, examples: ['2 litres, oat'] }), t.Null()], {
  description:
    'Up to 1000 Unicode characters, of which control characters are refused as in a title, or null',
})
const completed = t.Boolean({ examples: [false] })

export const TaskPriority = OneOf(['none', 'low', 'medium', 'high'])
export type TaskPriority = typeof TaskPriority.static

const tagText = { type: 'string', minLength: 1, maxLength: 50, examples: ['home'] }
const tags = DistinctTexts({
  items: tagText,
  maxItems: 20,
  description: 'Up to 20 different ones of 1 to 50 Unicode characters, without control characters',
})
const timeOfDay = t.String({
  pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$',
  examples: ['09:30'],
  [expectation]: 'a time of day, as HH:MM',
})

const recurrenceFrom = OneOf(['due', 'completion'], {
  description:
    '`due`: the next date is counted from this one, whenever the task is completed. `completion`: from the day of completion',
})
const ruleExamples = ['FREQ=WEEKLY;BYDAY=MO,TH']
const rule = (what: string) =>
  t.Optional(
    t.Union([RecurrenceRule({ description: what, examples: ruleExamples }), t.Null()], {
      description: what,
      examples: ruleExamples,
      [spelling]: 'recurrence',
    }),
  )

/** A moment in time, as answers write it. */
export const instant = (what: string) =>
  t.String({ format: 'date-time', description: what, examples: ['2026-03-01T09:30:00.123Z'] })
const nullable = <Schema extends ReturnType<typeof t.String>>(schema: Schema, what: string) =>
  t.Union([schema, t.Null()], { description: what })

const taskFields = {
  // TypeBox's own: Elysia's also takes text, and the documentation would say so.
  id: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [1] }),
  title: t.String({ examples: ['Buy milk'] }),
  description: t.Union([t.String(), t.Null()], { examples: ['2 litres, oat'] }),
  completed: t.Boolean({ examples: [false] }),
  priority: TaskPriority,
  tags: t.Array(t.String(), { examples: [['home']] }),
  due_date: nullable(t.String({ format: 'date', examples: ['2026-03-01'] }), 'A calendar date'),
  due_time: nullable(t.String({ examples: ['09:30'] }), 'HH:MM on that date. Null: all day'),
  due_timezone: nullable(
    t.String({ examples: ['Europe/Paris'] }),
    'The zone of date and time. Null: wherever the reader is',
  ),
  due_at: nullable(
    instant('Computed'),
    'The instant, where date, time and zone are known. A local time that a clock change skips moves forward; of one that occurs twice it is the first',
  ),
  recurrence: nullable(
    t.String({ examples: ['FREQ=WEEKLY;BYDAY=MO,TH'] }),
    'The rule by which it comes again (RFC 5545). `COUNT` says how many are left, this one included',
  ),
  recurrence_from: recurrenceFrom,
  series_id: t.Union([Type.Integer({ examples: [1] }), t.Null()], {
    description: 'The id of the first task of its series',
  }),
  occurrence_date: nullable(
    t.String({ format: 'date', examples: ['2026-03-01'] }),
    'The date on which the rule puts it, wherever due_date has been moved',
  ),
  next_task_id: t.Union([Type.Integer({ examples: [2] }), t.Null()], {
    description: 'The task that came after it when it was completed',
  }),
  reminders: Reminders,
  completed_at: nullable(instant('Computed'), 'When it was completed'),
  created_at: instant('When it was created, in UTC'),
  updated_at: instant('When it was last changed, in UTC'),
  version: Type.Integer({
    minimum: 1,
    description: 'Counts up with every change. Its ETag',
    examples: [1],
  }),
}

export const Task = t.Object(taskFields, {
  title: 'Task',
  examples: [
    {
      id: 1,
      title: 'Buy milk',
      description: '2 litres, oat',
      completed: false,
      priority: 'none',
      tags: ['home'],
      due_date: '2026-03-01',
      due_time: '09:30',
      due_timezone: 'Europe/Paris',
      due_at: '2026-03-01T08:30:00.000Z',
      recurrence: null,
      recurrence_from: 'due',
      series_id: null,
      occurrence_date: null,
      next_task_id: null,
      reminders: [{ minutes_before: 30 }],
      completed_at: null,
      created_at: '2026-02-27T18:05:00.123Z',
      updated_at: '2026-02-27T18:05:00.123Z',
      version: 1,
    },
  ],
})
export type Task = typeof Task.static

const fields = {
  description: t.Optional(description),
  completed: t.Optional(completed),
  priority: t.Optional(TaskPriority),
  tags: t.Optional(tags),
  due_date: t.Optional(
    t.Union(
      [
        CalendarDateOrInstant({
          description: 'A date; or an RFC 3339 instant, which sets date, time and zone (UTC)',
        }),
        t.Null(),
      ],
      { description: 'Null clears time and zone, too', examples: ['2026-03-01'] },
    ),
  ),
  due_time: t.Optional(t.Union([timeOfDay, t.Null()], { description: 'Needs a due_date' })),
  due_timezone: t.Optional(
    t.Union([TimeZone({ description: 'An IANA name' }), t.Null()], {
      description: 'Needs a due_date',
      examples: ['Europe/Paris'],
    }),
  ),
  recurrence: rule(
    'A rule (RFC 5545, without DTSTART) by which the task comes again when it is completed; or daily, weekly, monthly, yearly. Needs a due_date, on which it starts. Null ends it',
  ),
  recurrence_from: t.Optional(recurrenceFrom),
  recurrence_rule: rule('Another spelling of recurrence, which it overrides'),
  recurrence_pattern: rule('Another spelling of recurrence, which it overrides'),
  reminders: t.Optional(GivenReminders),
  reminder_at: t.Optional(ReminderAt),
}

type Given = {
  due_date?: string | null
  recurrence?: string | null
  recurrence_rule?: string | null
  recurrence_pattern?: string | null
}

/**
 * The fields of a body under the names, and in the spellings, in which they are kept. No answer has the other
 * names of `recurrence`: whoever sends one means it, and may send the rest of the task back as it was read.
 */
export function keptFields<Fields extends Given>(given: Fields): Fields {
  const {
    recurrence: asRead,
    recurrence_pattern = asRead,
    recurrence_rule: recurrence = recurrence_pattern,
  } = given
  if (recurrence === undefined) return splitDueInstant(given)
  return { ...splitDueInstant(given), recurrence: recurrence && readRule(recurrence) }
}

/** An instant as the due date, which some front ends send, is a date, a time and a zone. */
function splitDueInstant<Fields extends Given>(given: Fields): Fields {
  if (typeof given.due_date !== 'string' || !isInstant(given.due_date)) return given
  const local = Temporal.Instant.from(given.due_date).toZonedDateTimeISO('UTC')
  return {
    ...given,
    due_date: local.toPlainDate().toString(),
    due_time: local.toPlainTime().toString({ smallestUnit: 'minute' }),
    due_timezone: 'UTC',
  }
}

export const NewTask = t.Object(
  { title, ...fields },
  { title: 'NewTask', examples: [{ title: 'Buy milk' }] },
)
export type NewTask = typeof NewTask.static

export const TaskChanges = t.Object(
  { title: t.Optional(title), ...fields },
  {
    title: 'TaskChanges',
    minProperties: 1,
    description: 'A field that is left out keeps its value',
    examples: [{ description: '2 litres, oat' }],
  },
)
export type TaskChanges = typeof TaskChanges.static

export const Completion = t.Object(
  { completed: t.Optional(completed) },
  // An empty object never gets here: Elysia takes it for an optional body that is not there.
  {
    title: 'Completion',
    minProperties: 1,
    description: 'With `{}`, or no body at all, the task is toggled',
    examples: [{ completed: true }],
  },
)

export const TaskParams = t.Object(
  { id: DecimalText({ maximum: Number.MAX_SAFE_INTEGER, description: 'The id of a task' }) },
  // The path may name the user, too: see currentUser.
  { additionalProperties: true },
)

const TaskStatus = OneOf(['all', 'pending', 'completed'])
export type TaskStatus = typeof TaskStatus.static

const yesOrNo = (what: string) => t.Optional(YesOrNo({ description: what }))
const searched = (what: string) => t.Optional(Text({ maxLength: 200, description: what }))

export const sortKeys = ['created', 'updated', 'title', 'due_date', 'priority'] as const
const sortSpellings = [...sortKeys, 'created_at', 'updated_at'] as const
const sorts = [...sortSpellings, ...sortSpellings.map((key) => `-${key}` as const)] as const
export type SortKey = (typeof sortKeys)[number]

export const ListQuery = t.Object({
  status: t.Optional(TaskStatus),
  priority: t.Optional(TaskPriority),
  tag: t.Optional(
    TextOrTexts({
      items: tagText,
      maxItems: 20,
      description: 'Tasks that have this tag; given several times, all of them',
    }),
  ),
  q: searched(
    'Up to 20 words or parts of words, all of which stand in the title or the description',
  ),
  due_from: t.Optional(CalendarDate({ description: 'Due on this day or later' })),
  due_to: t.Optional(CalendarDate({ description: 'Due on this day or earlier' })),
  overdue: yesOrNo('Tasks that are late, or those that are not'),
  tz: t.Optional(TimeZone({ description: 'The zone of the reader’s days. Default: UTC' })),
  sort: t.Optional(
    OneOf(sorts, { description: 'A leading - descends. Default: created, which is created_at' }),
  ),
  limit: t.Optional(
    DecimalText({ maximum: 500, description: 'Tasks on a page. Without it all are on one' }),
  ),
  cursor: t.Optional(
    Text({
      maxLength: 1500,
      description: 'Where the page starts: from the Link header of the one before',
    }),
  ),
  completed: yesOrNo('Another spelling of status'),
  search: searched('Another spelling of q'),
  order: t.Optional(
    OneOf(['asc', 'desc'], {
      description: 'Another spelling of - in sort',
    }),
  ),
})
export type ListQuery = typeof ListQuery.static

/** A server reads headers of 256 KiB; what is looked at closely is never as long. */
export const header = (what: string, example: string) =>
  t.Optional(t.String({ maxLength: 8192, description: what, examples: [example] }))

/** The request headers of a route that reads. */
export const ReadHeaders = t.Object({
  'if-none-match': header('What you have already: 304 if it is still so', '"7"'),
})

/** The request headers of a route that creates. */
export const CreateHeaders = t.Object({
  'idempotency-key': header(
    'Your name for this request, such as a UUID. Sent again within 24 hours, it is answered again and not done again',
    '5f0c8a4e-9c1b-4f43-9d0e-0f8f6a3f2b11',
  ),
})

/** The request headers of a route that changes a task. */
export const ChangeHeaders = t.Object({
  ...CreateHeaders.properties,
  'if-match': header('The version you have read: 412 if it is no longer the current one', '"7"'),
})

/** A task in the trash. */
export const TrashedTask = t.Object(
  { ...Task.properties, deleted_at: instant('When it was moved into the trash, in UTC') },
  { title: 'TrashedTask' },
)
export type TrashedTask = typeof TrashedTask.static

export const RemoveQuery = t.Object({
  permanent: yesOrNo('`true`: for good, past the trash or out of it'),
})
