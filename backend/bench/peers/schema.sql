create table tasks (
  id integer generated always as identity primary key,
  user_id text not null,
  title text not null,
  description text,
  completed boolean not null default false,
  priority text not null default 'none' check (priority in ('none', 'low', 'medium', 'high')),
  tags text[] not null default '{}',
  due_date date,
  due_time time,
  due_timezone text,
  due_at timestamptz,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version integer not null default 1
);
create index tasks_of_user on tasks (user_id, created_at, id);
