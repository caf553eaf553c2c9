import type { Database } from '../../db/pool.ts'
import type { Fragment } from '../../db/sql.ts'
import { taskColumns } from '../columns.ts'
import { createSeriesParts } from './series.ts'

/**
 * What every statement that writes is made of. What differs is the judgement: each has a part `allowed`
 * with those rows of `input` that may happen, the `deleted_at` of their tasks and their `growth`.
 */
export function createWriteParts({ fragment }: Pick<Database, 'fragment'>) {
  const columns = taskColumns({ fragment })
  const series = createSeriesParts({ fragment })
  const dueDate = fragment`case when sets_due_date then new.due_date else tasks.due_date end`

  const isDone = (hasFields: boolean) => fragment`
    case when op = 'toggle' then not tasks.completed
    else ${hasFields ? fragment`coalesce(new.completed, tasks.completed)` : fragment`tasks.completed`} end`

  /** What an update sets besides what every change does. Whether a task is done is apart. */
  const fieldsSet = (ofSeries: boolean) => fragment`
          title = coalesce(new.title, tasks.title),
          description = case when sets_description then new.description else tasks.description end,
          priority = coalesce(todo_api.priority_of(new.priority), tasks.priority),
          tags = coalesce(new.tags, tasks.tags),
          due_date = ${ofSeries ? series.dueDate : dueDate},
          ${ofSeries ? fragment`${series.assignments},` : fragment``}
          due_time = case when sets_due_time then new.due_time else tasks.due_time end,
          due_timezone = case when sets_due_timezone then new.due_timezone else tasks.due_timezone end,
          reminders = coalesce(new.reminders, tasks.reminders),`

  return {
    series,

    jsonOf: (row: Fragment) =>
      fragment`(select row_to_json(task)::text from (select ${columns} from (select ${row}.*) as row) task)`,

    /**
     * @param rows of `rowsOf`, in JSON
     * @param patience how long to wait for a lock, in milliseconds; 0 for ever
     * @param more columns of the rows, each after a comma
     */
    input: (rows: string, patience: string, more: Fragment) => fragment`
      input as materialized (
        select input.*
        from
          (select set_config('lock_timeout', ${patience}, true)) as limited,
          json_to_recordset(${rows}::text::json) as input (
          place int, user_id text, kind text, aims_at text, op text, id bigint,
          versions bigint[], key text, request text ${more}
        )
      )`,

    /** What creates and updates have in addition. */
    fields: fragment`,
          title text, description text, completed boolean, priority text, tags text[],
          due_date date, due_time time, due_timezone text, reminders jsonb,
          sets_description boolean, sets_due_date boolean, sets_due_time boolean,
          sets_due_timezone boolean,
          series jsonb`,

    /** Only servers of the previous version read it, which answer repetitions with it. */
    statusForOlderServers: fragment`200`,

    /** The answers that were given under the keys before. */
    prior: fragment`
      prior as (
        select input.place, found.*
        from input, lateral (
          select task_id, version, body, request from todo_api.idempotency_keys as recorded
          where recorded.user_id = input.user_id and recorded.key = input.key
            and created_at > now() - interval '24 hours'
          offset 0
        ) as found
        where input.key is not null
      )`,

    /** A lock until the transaction ends: a request that does not get it knows that the first still runs. */
    turn: fragment`
      turn as (
        select place, pg_try_advisory_xact_lock(hashtextextended(user_id || ' ' || key, 0)) as is_ours
        from input where key is not null
      )`,

    /** Whether the task of an operation is where the operation looks for it. */
    isAmong: fragment`(op = 'destroy' or (op = 'restore') = (tasks.deleted_at is not null))`,

    /** Whether the task has a date for what needs one. If not, a constraint refuses all of a set. */
    hasItsDate: fragment`
      (
        case when sets_due_date then input.due_date else tasks.due_date end is not null
        or case when sets_due_time then input.due_time else tasks.due_time end is null
        and case when sets_due_timezone then input.due_timezone else tasks.due_timezone end is null
        and series ->> 'recurrence' is null
      )`,

    /** The place of a write among those of its user that may happen, and how many those are. */
    numbering: fragment`
      row_number() over (partition by user_id order by place) as number,
      count(*) over (partition by user_id) as numbers`,

    /** The same if no user has two: windows cost a sort. */
    numberingOfOne: fragment`1 as number, 1 as numbers`,

    /** The same for tasks that come again, some of which write another: a number for each task. */
    weighedNumbering: fragment`
      sum(1 + coalesce(abs(weight), 0)) over (partition by user_id order by place) as number,
      sum(1 + coalesce(abs(weight), 0)) over (partition by user_id) as numbers`,

    /**
     * How much longer the list is afterwards.
     *
     * @param weight how much of that is due to the series of the task
     */
    growth: (weight: Fragment) => fragment`
      case op
        when 'create' then 1
        when 'restore' then 1
        when 'delete' then -1
        when 'destroy' then case when deleted_at is null then -1 else 0 end
        else ${weight}
      end`,

    // An update locks its rows in no particular order, so they are locked here first.
    list: (maxTasksPerUser: number) => fragment`
      list as (
        insert into todo_api.task_lists as list (user_id, counter, task_count)
        select demand.*
        from
          (
            select user_id, max(numbers) as numbers, sum(growth) as growth
            from allowed group by user_id
          ) as demand,
          -- A list, or somebody who has nothing yet and gets theirs here. If a user has no list yet,
          -- addLists makes it. Not 'exists', for which PostgreSQL might read all lists of all users.
          lateral (
            (select from todo_api.task_lists where task_lists.user_id = demand.user_id)
            union all
            (
              select where
                (select true from todo_api.tasks where tasks.user_id = demand.user_id limit 1) is null
                and (
                  select true from todo_api.deleted_tasks
                  where deleted_tasks.user_id = demand.user_id limit 1
                ) is null
            )
            limit 1
          ) as known
        where growth <= ${maxTasksPerUser}
        order by user_id
        on conflict (user_id) do update set
          counter = list.counter + excluded.counter,
          task_count = list.task_count + excluded.task_count
        where excluded.task_count <= 0 or list.task_count + excluded.task_count <= ${maxTasksPerUser}
        returning user_id, counter
      )`,

    numbered: fragment`
      numbered as materialized (
        -- As one condition, so that a task is looked up by its user and its id, and not by one of them.
        select allowed.*, list.counter - numbers + number as change
        from allowed join list using (user_id)
      )`,

    weighedNumbered: fragment`
      numbered as materialized (
        select *, ${series.next}
        from (
          select allowed.*, list.counter - numbers + number - coalesce(abs(weight), 0) as change
          from allowed join list using (user_id)
        ) as counted
      )`,

    created: (ofSeries: boolean) => fragment`
      created as (
        insert into todo_api.tasks (
          user_id, change, created_change, title, description, completed, completed_at, priority,
          tags, due_date, due_time, due_timezone, reminders ${ofSeries ? fragment`, ${series.columns}` : fragment``}
        )
        select
          user_id, change, change, title, description, completed,
          case when completed then now() end, todo_api.priority_of(priority), tags, due_date, due_time, due_timezone,
          reminders
          ${ofSeries ? fragment`, ${series.values}` : fragment``}
        from numbered where kind = 'create' order by place
        returning *
      )`,

    /** @param hasFields whether the input has `fields` */
    changed: ({ ofSeries, hasFields }: { ofSeries: boolean; hasFields: boolean }) => fragment`
      changed as (
        update todo_api.tasks set
          ${hasFields ? fieldsSet(ofSeries) : fragment``}
          completed = ${isDone(hasFields)},
          completed_at = case when ${isDone(hasFields)} then coalesce(tasks.completed_at, clock_timestamp()) end,
          deleted_at = case when op = 'delete' then clock_timestamp() end,
          restored_change = case when op = 'restore' then new.change else tasks.restored_change end,
          updated_at = case when op = 'delete' then tasks.updated_at else clock_timestamp() end,
          version = tasks.version + 1,
          change = new.change
        from numbered as new
        where tasks.user_id = new.user_id and tasks.id = new.id and new.kind = 'change'
        returning tasks.*, new.place
      )`,

    destroyed: fragment`
      destroyed as (
        delete from todo_api.tasks using numbered as old
        where tasks.user_id = old.user_id and tasks.id = old.id and old.kind = 'destroy'
        returning
          tasks.user_id, tasks.id, tasks.version, old.place,
          -- For those who follow the changes, it was deleted when it went into the trash.
          case when tasks.deleted_at is null then old.change else tasks.change end as change,
          coalesce(tasks.deleted_at, clock_timestamp()) as deleted_at
      ), remembered as (
        insert into todo_api.deleted_tasks (id, user_id, change, deleted_at)
        select id, user_id, change, deleted_at from destroyed
      )`,
  }
}
