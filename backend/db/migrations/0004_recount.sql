-- A server from before 0003_trash_and_sync, at work beside or after one that knows the trash, counts
-- tasks in it as tasks, and deletes without leaving a word in deleted_tasks. Which deletions those
-- were is not known any more. So every list is counted again, and whoever follows one reads it anew:
-- all changes up to a new number are said to be forgotten.

-- A count that waited for a write would take the list as it is and the tasks as they were before.
lock table task_lists in exclusive mode;

update task_lists set
  task_count = (
    select count(*) from tasks
    where tasks.user_id = task_lists.user_id and deleted_at is null
  ),
  counter = counter + 1,
  purged_through = counter + 1;
