-- What scripts and agents use to act for a user. Only a key's SHA-256 is kept, and its beginning, by which
-- its user knows it.
create table personal_keys (
  user_id text not null,
  id bigint generated always as identity,
  -- There are as many as a user may have keys: of two that take the same at once, one must try another.
  slot smallint not null,
  hash text not null,
  start text not null,
  name text not null,
  scope text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  primary key (user_id, id),
  unique (user_id, slot)
);
-- Nothing but the key itself says whose it is.
create index personal_keys_by_hash on personal_keys (hash);
create index personal_keys_by_age on personal_keys (expires_at);
