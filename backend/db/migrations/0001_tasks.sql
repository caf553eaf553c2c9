create table tasks (
  id bigint generated always as identity primary key,
  user_id text not null,
  title text not null,
  description text,
  completed boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- A user's tasks, oldest first, without a look at anybody else's.
create index tasks_of_user on tasks (user_id, created_at, id);
