-- One row, which `bun run restored` changes. What a client is given to come back with (tags of lists,
-- sync tokens, ids of events) rests on the counter of its list. A restored backup sets that back, and
-- the numbers that follow mean something else than before: the epoch tells them apart. It is empty
-- until the first restore, so that servers of the version before can go on.
create table epoch (
  value text not null,
  is_only_row boolean primary key default true check (is_only_row)
);
insert into epoch (value) values ('');
