import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'

/**
 * What a write does to the series of a task that comes again: the pieces of SQL that the statements of
 * writes share. What happens is in functions of the schema (0009_recurrence), which look anew at the task
 * that comes next: a statement that has waited for a lock sees other rows as they were before it waited.
 */
export function createSeriesParts({ fragment }: Pick<Database, 'fragment'>) {
  const isOne = fragment`(tasks.recurrence is not null or tasks.next_task_id is not null)`

  return {
    /** Whether a write to a task must be made by a statement for tasks that come again. */
    isOne: fragment`((op = 'update' or op = 'toggle') and ${isOne})`,

    /**
     * What the write does to the series of a locked task, if it has one.
     *
     * @param isSound whether to ask at all: a rule without a date is refused by an error
     */
    step: (isSound: Fragment) => fragment`
      case when (${isOne} or input.series is not null or op = 'skip') and ${isSound} then todo_api.step_of(tasks, to_jsonb(input)) end as step`,

    /**
     * How much the list grows by that; null if the write cannot be made now. A task that the same statement
     * writes counts as touched.
     *
     * @param others those tasks whose writes in the statement may happen, as rows with an `id` and nothing else
     * @param waits whether to wait for the holder of the task that is to go
     */
    weight: (others: Fragment, waits: Fragment) => fragment`
      case
        when (step).rule_from is null then 0
        when (select true from ${others} as other where other.id = (step).follower limit 1) then 0
        else todo_api.weight_of(user_id, step, ${waits})
      end as weight`,

    /** The task that comes, or goes: its number is after that of the task that is written. */
    next: fragment`
      case when weight <> 0 then todo_api.take_step(user_id, id, step, weight, change + 1) end as next_id`,

    /** Columns of a new task, and their values. */
    columns: fragment`recurrence, recurrence_from, recurrence_start, occurrence_date`,
    values: fragment`
      case when series is not null then todo_api.starting_rule(series ->> 'recurrence', due_date) end,
      coalesce(series ->> 'recurrence_from', 'due'),
      case when series ->> 'recurrence' is not null then due_date end,
      case when series ->> 'recurrence' is not null then due_date end`,

    /** What is set on a changed task. */
    dueDate: fragment`
      case
        when op = 'skip' then (step).due_date
        when sets_due_date then new.due_date
        else tasks.due_date
      end`,
    assignments: fragment`
      recurrence = case when (step).rule_from is null then tasks.recurrence else (step).rule end,
      recurrence_from = coalesce((step).rule_from, tasks.recurrence_from),
      recurrence_start = case when (step).rule_from is null then tasks.recurrence_start else (step).rule_start end,
      occurrence_date = case when (step).rule_from is null then tasks.occurrence_date else (step).occurrence end,
      next_task_id = case when weight <> 0 then next_id else tasks.next_task_id end`,
  }
}
