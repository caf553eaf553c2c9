import type { Database, Fragment } from '../../db/pool.ts'

/**
 * What a write does to the series of a task that comes again: the pieces of SQL that the statements of
 * writes share. For a task without a rule each of them ends at the first look at `recurrence` or
 * `next_task_id`. The functions are in the schema (0009_recurrence).
 *
 * `target` has the task as it is when it is locked, `numbered` adds the next task or takes it away.
 */
export function createSeriesParts({ fragment }: Pick<Database, 'fragment'>) {
  /** @param input where the fields are that the write gives */
  const isDone = (input: Fragment) => fragment`
    case when op = 'toggle' then not tasks.completed else coalesce(${input}.completed, tasks.completed) end`
  const isDoneThen = isDone(fragment`input`)

  const rule = fragment`case when sets_recurrence then input.recurrence else tasks.recurrence end`
  const dueDate = fragment`case when sets_due_date then input.due_date else tasks.due_date end`
  // The same rule starts anew if the task has been moved off it. But most who send a rule that is there
  // already send the whole task back as they read it, its date included: to them nothing happens.
  const startsAnew = fragment`(
    sets_recurrence and (
      input.recurrence is distinct from tasks.recurrence
      or ${dueDate} <> tasks.occurrence_date
        and (sets_due_date is not true or input.due_date <> tasks.due_date)
    )
  )`
  const from = (date: Fragment) => fragment`
    case when ${rule} is not null then case when ${startsAnew} then ${dueDate} else ${date} end end`
  const ruleStart = from(fragment`tasks.recurrence_start`)
  const occurrence = from(fragment`tasks.occurrence_date`)
  const ruleFrom = fragment`coalesce(input.recurrence_from, tasks.recurrence_from)`
  const zone = fragment`case when sets_due_timezone then input.due_timezone else tasks.due_timezone end`

  const goesOn = fragment`(
    ${rule} is not null and not tasks.completed
    and (op = 'skip' or ${isDoneThen} and tasks.next_task_id is null)
  )`

  /** What the next task has of the one before it, as that is after the write. */
  const inherited = fragment`
    coalesce(title, (locked).title),
    case when sets_description then description else (locked).description end,
    coalesce(priority, (locked).priority::text),
    coalesce(tags, (locked).tags),
    case when sets_due_time then due_time else (locked).due_time end,
    case when sets_due_timezone then due_timezone else (locked).due_timezone end`

  return {
    isDone,

    /** Of `target`: the rule after the write, the date that comes next, and what the task is followed by. */
    ofTarget: fragment`
      tasks.id as task_id, ${rule} as rule, ${ruleStart} as rule_start, ${occurrence} as occurrence,
      case when ${goesOn} then
        todo_api.next_date(${rule}, ${ruleFrom}, ${ruleStart}, ${occurrence}, ${zone})
      end as next_date,
      case when ${goesOn} then tasks end as locked,
      case when tasks.next_task_id is not null and tasks.completed and not ${isDoneThen} then
        tasks.next_task_id
      end as follower`,

    /** The same if there is no task. */
    ofNoTarget: fragment`
      null::bigint as task_id, null::text as rule, null::date as rule_start, null::date as occurrence,
      null::date as next_date, null::todo_api.tasks as locked, null::bigint as follower`,

    /**
     * Of `target`, with `input`: whether the write adds the next task, and whether it takes that away.
     * A task that is written in the same statement is as good as touched. Null: somebody holds it.
     *
     * @param waits whether to wait for whoever holds it
     */
    changes: (waits: Fragment) => fragment`
      target.rule, target.rule_start, target.occurrence, target.next_date, target.locked, target.follower,
      op <> 'skip' and target.next_date is not null as adds,
      case
        when target.follower is null then false
        when (select true from target as other where other.task_id = target.follower limit 1) then false
        else todo_api.is_untouched(input.user_id, target.follower, ${waits})
      end as withdraws`,

    /** Of `numbered`. The next task has the number after that of the task that is written. */
    effects: fragment`
      case when adds then
        todo_api.add_next(
          user_id, id, coalesce((locked).series_id, id), change + 1, rule,
          coalesce(recurrence_from, (locked).recurrence_from), rule_start, next_date, ${inherited}
        )
      end as next_id,
      case when withdraws then todo_api.withdraw(user_id, follower, change + 1) end as withdrawn`,

    /** Columns of a new task, and their values. */
    columns: fragment`recurrence, recurrence_from, recurrence_start, occurrence_date`,
    values: fragment`
      recurrence, coalesce(recurrence_from, 'due'),
      case when recurrence is not null then due_date end,
      case when recurrence is not null then due_date end`,

    /** Of `changed`. */
    assignments: fragment`
      due_date = case
        when op = 'skip' then new.next_date when sets_due_date then new.due_date else tasks.due_date
      end,
      recurrence = case when op = 'skip' then todo_api.next_rule(new.rule) else new.rule end,
      recurrence_from = coalesce(new.recurrence_from, tasks.recurrence_from),
      recurrence_start = case
        when op = 'skip' and tasks.recurrence_from = 'completion' then new.next_date else new.rule_start
      end,
      occurrence_date = case when op = 'skip' then new.next_date else new.occurrence end,
      next_task_id = case when adds then new.next_id when not withdraws then tasks.next_task_id end`,
  }
}
