/** What a task is, apart from its version. */
export type State = {
  title: string
  description: string | null
  completed: boolean
  priority: string
  place: 'list' | 'trash' | 'nowhere'
}

export type Fields = Partial<Omit<State, 'place'>>

/** What was asked of a task. */
export type Write =
  | { does: 'create' | 'update'; fields: Fields }
  | { does: 'toggle' | 'remove' | 'restore' | 'destroy' }

/** When it was asked and when it was answered. Without an answer, its end is `Infinity`. */
export type Timed = { began: number; ended: number }

/**
 * A write that took effect, or may have.
 *
 * - `done`: it was confirmed. Its version is known if the answer had a body
 * - `unknown`: it took effect once or not at all, at any time since it began
 */
export type WriteEvent = Timed & {
  write: Write
  /** The only version that it may be applied to. */
  onlyAt?: number
  outcome: { is: 'done'; version?: number; shown?: State } | { is: 'unknown' }
}

/** The task was shown at a version, by a read, a list, a page of changes or a refusal. */
export type Sight = Timed & { version: number; shown: State }

/** The task was not in any of these places. */
export type Absence = Timed & { from: State['place'][] }

/** All that clients did to a task and learned of it. */
export type History = {
  writes: WriteEvent[]
  sights: Sight[]
  absences: Absence[]
  /** What the database has in the end. Absent: the task is nowhere. */
  last?: { version: number; state: State }
}

/** How many writes took effect, or why no order of them explains what was seen, and what that counts as. */
export type Verdict = { effects: number } | Problem
type Problem = { problem: string; figure: 'writes lost' | 'duplicates' | 'wrong answers' }

const nothing: State = {
  title: '',
  description: null,
  completed: false,
  priority: 'none',
  place: 'nowhere',
}

/** What a write makes of a task, or nothing if it would be refused. */
export function apply(write: Write, state: State, version: number): State | undefined {
  switch (write.does) {
    case 'create':
      return version === 0 ? { ...nothing, ...write.fields, place: 'list' } : undefined
    case 'update':
      return state.place === 'list' ? { ...state, ...write.fields } : undefined
    case 'toggle':
      return state.place === 'list' ? { ...state, completed: !state.completed } : undefined
    case 'remove':
      return state.place === 'list' ? { ...state, place: 'trash' } : undefined
    case 'restore':
      return state.place === 'trash' ? { ...state, place: 'list' } : undefined
    case 'destroy':
      return state.place === 'nowhere' ? undefined : { ...state, place: 'nowhere' }
  }
}

/** What holds from one version to the next, and what of it and before it limits when that was. */
type Moment = {
  state: State
  /** It began no earlier than all of this did. */
  entered: number
  latestBegin: number
  earliestEnd: number
}

const mostSteps = 200_000 // of trying orders

function wrong(problem: string, figure: Problem['figure'] = 'wrong answers'): Problem {
  return { problem, figure }
}

/** What holds once a write has made a version, if that fits all that was seen of it. */
function arrive(
  { write, onlyAt, outcome, began, ended }: WriteEvent,
  version: number,
  before: Moment,
  sights: Sight[],
): Moment | Problem {
  const state = apply(write, before.state, version - 1)
  if (state === undefined || (onlyAt !== undefined && onlyAt !== version - 1))
    return wrong(`${write.does} was refused, or should have been`)
  if (ended < before.latestBegin)
    return wrong(`${write.does} had ended before what comes before it began`)
  if (outcome.is === 'done' && outcome.shown && !isSame(outcome.shown, state))
    return wrong(`${write.does} answered ${show(outcome.shown)}, not ${show(state)}`)
  const entered = Math.max(before.latestBegin, began)
  const moment = { state, entered, latestBegin: entered, earliestEnd: ended }
  for (const sight of sights) {
    if (!isSame(sight.shown, state))
      return wrong(`was shown as ${show(sight.shown)}, not ${show(state)}`)
    if (sight.ended < entered)
      return wrong('was shown before it was made, or before what precedes it was seen')
    moment.latestBegin = Math.max(moment.latestBegin, sight.began)
    moment.earliestEnd = Math.min(moment.earliestEnd, sight.ended)
  }
  return moment
}

/** Why an order of writes does not explain what is there in the end, and what was not found on the way. */
function problemWith(
  moments: Moment[],
  { absences, last }: History,
  unused: WriteEvent[],
): Problem | undefined {
  const { state } = moments.at(-1)!
  if (last && last.version !== moments.length - 1)
    return wrong(`the database has version ${last.version}`, 'writes lost')
  if (last ? !isSame(last.state, state) : state.place !== 'nowhere')
    return wrong(`the database has ${last ? show(last.state) : 'nothing'}, not ${show(state)}`)
  const missing = unused.find(({ outcome }) => outcome.is === 'done')
  if (missing) return wrong(`${missing.write.does} was confirmed and had no effect`, 'writes lost')
  const ends = moments.map(({ earliestEnd }) => earliestEnd)
  for (let at = ends.length - 2; at >= 0; at -= 1) ends[at] = Math.min(ends[at]!, ends[at + 1]!)
  const strange = absences.find(
    ({ began, ended, from }) =>
      !moments.some(
        (moment, at) =>
          !from.includes(moment.state.place) &&
          ended >= moment.entered &&
          began <= (ends[at + 1] ?? Infinity),
      ),
  )
  return strange && wrong(`was not found in ${strange.from.join(' or ')} when it was there`)
}

/**
 * Whether a task's history is linearizable: whether there is an order of its writes in which each
 * took effect once, made what it was answered, and explains all that was seen, and in which nothing
 * that began after something had ended comes before it. Versions give most of the order; writes
 * whose version nobody was told are tried in every place where they fit.
 */
export function judge(history: History): Verdict {
  const { writes, sights, last } = history
  const byVersion = new Map<number, WriteEvent>()
  const loose: WriteEvent[] = []
  for (const event of writes) {
    const version = event.outcome.is === 'done' ? event.outcome.version : undefined
    if (version === undefined) loose.push(event)
    else if (byVersion.has(version))
      return wrong(`two writes made version ${version}`, 'writes lost')
    else byVersion.set(version, event)
  }
  const sightsOf = Map.groupBy(sights, ({ version }) => version)
  const known = Math.max(0, last?.version ?? 0, ...byVersion.keys(), ...sightsOf.keys())
  const moments: Moment[] = [
    { state: nothing, entered: -Infinity, latestBegin: -Infinity, earliestEnd: Infinity },
  ]
  const used = new Set<WriteEvent>()
  let steps = 0
  let deepest = -1
  let reason = wrong('')

  /** Keeps why the order that explained most did not explain all. */
  function fail(version: number, { problem, figure }: Problem): void {
    if (version > deepest) reason = { problem: `version ${version}: ${problem}`, figure }
    deepest = Math.max(deepest, version)
  }

  /** Tries all that can come next, and whether there is a way on to the end. */
  function goOn(): boolean {
    const version = moments.length
    const before = moments.at(-1)!
    const told = byVersion.get(version)
    if (version > known) {
      const unused = loose.filter((event) => !used.has(event))
      const problem = problemWith(moments, history, unused)
      if (problem === undefined) return true
      fail(version - 1, problem)
      // Beyond what is known there can only be the end of the task.
      if (last || before.state.place === 'nowhere') return false
    }
    for (const event of told ? [told] : loose) {
      if (used.has(event)) continue
      if ((steps += 1) > mostSteps) return false
      const moment = arrive(event, version, before, sightsOf.get(version) ?? [])
      if ('problem' in moment) {
        fail(version, moment)
        continue
      }
      used.add(event)
      moments.push(moment)
      if (goOn()) return true
      moments.pop()
      used.delete(event)
    }
    if (version > known) fail(version, wrong('it is gone, and no write explains it', 'writes lost'))
    else if (!told) fail(version, wrong('no write explains it', 'duplicates'))
    return false
  }

  if (goOn()) return { effects: moments.length - 1 }
  return steps > mostSteps ? wrong('there are too many orders to try') : reason
}

function isSame(one: State, other: State): boolean {
  return (
    one.title === other.title &&
    one.description === other.description &&
    one.completed === other.completed &&
    one.priority === other.priority &&
    one.place === other.place
  )
}

function show(state: State): string {
  return JSON.stringify(state)
}
