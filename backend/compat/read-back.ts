import { isInstant } from '../http/values.ts'
import { TaskChanges, type Task } from '../tasks/schemas.ts'

export type Body = Record<string, unknown>

/** The body of a request for one task, which is changed here. */
export type ForTask = {
  /** Among the operations of a bulk request. */
  place?: number
  /** Of the task; absent if it is a new one. */
  id: number | undefined
  body: Body
  /** Whether it says in several spellings, which disagree, if the task is completed. */
  isTorn: boolean
}

/** As a form has it: a date and a time of day, and no zone. */
const localTime = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::[0-5]\d(?:\.\d+)?)?$/
const toTheMinute = 'yyyy-mm-ddThh:mm'.length
const timeOfDay = /^(?:[01]\d|2[0-3]):[0-5]\d$/

/** Whether a value may be one that we sent and the client merely returned. Only the stored task can tell. */
export function isUnsure({ body, isTorn }: ForTask): boolean {
  const { due_date: due } = body
  return (
    isTorn ||
    isMediumReadBack(body) ||
    due === null ||
    (typeof due === 'string' && (isInstant(due) || localTime.test(due)))
  )
}

/** A `medium` that comes alone was chosen; one among other fields may be what was read. */
function isMediumReadBack(body: Body): boolean {
  return (
    body['priority'] === 'medium' &&
    Object.keys(body).some(
      (name) => name !== 'priority' && Object.hasOwn(TaskChanges.properties, name),
    )
  )
}

/** Puts the stored values back in place of those that the client returned unchanged. */
export function keepAsRead({ body, isTorn }: ForTask, kept: Task | undefined): void {
  if (kept?.priority === 'none' && isMediumReadBack(body)) delete body['priority']
  // A whole task as it is stored, with a change: whichever spelling that is, it says the opposite.
  if (isTorn && kept && body['version'] === kept.version) body['completed'] = !kept.completed
  keepDue(body, kept)
}

function keepDue(body: Body, kept: Task | undefined): void {
  const { due_date: due } = body
  if (due === null) return keepCleared(body, kept)
  if (typeof due !== 'string') return
  if (kept && isDone(due, body, kept)) for (const name of dueFields) delete body[name]
  else if (kept && isReadBack(due, body, kept)) {
    body['due_date'] = kept.due_date
    // The time input of a form that shows the time with its date.
    if (!isWhole(body) && localTime.test(due) && !body['due_time']) delete body['due_time']
  } else {
    const local =
      typeof body['due_at'] === 'string' && isShown(due, body) ? localDateIn(body, kept) : undefined
    if (local) body['due_date'] = local
    else if (localTime.test(due)) takeForm(body, due, kept)
  }
}

/** What needs a date is cleared along with it, if it came back unchanged, be it from an older copy of the task. */
function keepCleared(body: Body, kept: Task | undefined): void {
  const isOlder = isWhole(body) && body['version'] !== kept?.version
  for (const name of ['due_time', 'due_timezone', 'recurrence'] as const)
    if (isOlder || (kept && body[name] === kept[name])) delete body[name]
}

const dueFields = ['due_date', 'due_time', 'due_timezone'] as const

/** Whether it is a task as it was read, with changes: `due_at` can only be read. */
const isWhole = (body: Body) => 'due_at' in body

/**
 * Whether a copy of a task asks again for the date that is stored by now, as a request does that is sent twice:
 * the date was chosen, and the time and the zone beside it were read before. If the copy is the newest one, the
 * time was chosen.
 */
function isDone(due: string, body: Body, kept: Task): boolean {
  if (!isWhole(body) || isShown(due, body) || !isReadBack(due, body, kept)) return false
  const { due_at: at, due_time: time, version = kept.version } = body
  const isNewest = version === kept.version && ('version' in body || typeof time === 'string')
  return at !== null || kept.due_at !== null || !isNewest
}

/** Forms cut off what their input does not take: `2027-01-06T08:30`. Some show the time of day of the task. */
function isReadBack(due: string, body: Body, kept: Task): boolean {
  const { due_date: date, due_time: time, due_at: at } = kept
  const minute = localTime.test(due) ? due.slice(0, toTheMinute) : undefined
  if (minute !== undefined && minute === `${date}T${time}`) return true
  if (at === null) return false
  if (minute === undefined) return isInstant(due) && isSame(due, at)
  // With a zone of the client's own it is a time of day there.
  return at.startsWith(minute) && (isWhole(body) || !('due_timezone' in body))
}

function isSame(one: string, other: string): boolean {
  return Temporal.Instant.compare(one, other) === 0
}

/** A form's date and time of day, as the API has them. What else a whole task has of them was read, or is refused. */
function takeForm(body: Body, due: string, kept: Task | undefined): void {
  const [, date, time] = localTime.exec(due)!
  const { due_time: own = null, due_timezone: zone = null } = body
  body['due_date'] = date
  if (own === null || own === '' || (typeof own === 'string' && timeOfDay.test(own)))
    body['due_time'] = time
  const isRead =
    isWhole(body) &&
    (kept === undefined || zone === kept.due_timezone || body['version'] !== kept.version)
  body['due_timezone'] = isRead ? null : zone
}

/** Whether a copy of a task showed its client this date. A client may cut off the end of an instant that it was shown. */
function isShown(due: string, body: Body): boolean {
  const { due_at: at, due_time: time } = body
  const minute = localTime.test(due) ? due.slice(0, toTheMinute) : undefined
  if (typeof at !== 'string' || !isInstant(at))
    return minute !== undefined && minute.endsWith(`T${String(time)}`)
  if (minute === undefined) return isInstant(due) && isSame(due, at)
  return at.startsWith(minute) || minute === `${localDateIn(body, undefined)}T${String(time)}`
}

/**
 * The date of a whole task that was read, and is a new one now or comes back when the task has changed: its
 * instant, its time and its zone belong together, unless one of them is the change.
 */
function localDateIn(body: Body, kept: Task | undefined): string | null | undefined {
  const { due_at: at, due_time: time, due_timezone: zone } = body
  try {
    const local = Temporal.Instant.from(String(at)).toZonedDateTimeISO(String(zone))
    const isThen = local.toPlainTime().toString({ smallestUnit: 'minute' }) === time
    const shown = local.toPlainDate().toString()
    return isThen ? shown : (kept?.due_date ?? shown)
  } catch {
    return kept?.due_date // there is no zone, or none that this knows
  }
}
