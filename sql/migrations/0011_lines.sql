-- Commands in their lines: for several agents at once, moved and edited while they wait, requested once for a key, and
-- labelled by those who look at them.

alter table onsembl.agents add labels text[] not null default '{}';
create index agents_labels on onsembl.agents using gin (labels);

-- One request for several agents: each has a command of its own, followed and cancelled as one.
create table onsembl.command_groups (
    id uuid primary key default gen_random_uuid(),
    seq bigint generated always as identity unique,
    text text not null check (length(text) between 1 and 100000),
    priority smallint not null check (priority between 1 and 10),
    target jsonb not null,                      -- as it was asked for: {"agents": […]}, {"labels": […]} or {"all": true}
    requested_by uuid,
    requested_by_name text not null default '',
    created_at timestamptz not null default now()
);

alter table onsembl.commands
    add group_id uuid references onsembl.command_groups (id) on delete set null,
    add position double precision,              -- within its priority, in place of `seq`, when it was moved
    add revision integer not null default 0,    -- grows with each edit
    add note text not null default '' check (length(note) <= 10000),
    add tags text[] not null default '{}';

drop index onsembl.commands_line;
create index commands_line on onsembl.commands (agent_id, priority, coalesce(position, seq), seq) where state = 'queued';
create index commands_group on onsembl.commands (group_id) where group_id is not null;
create index commands_tags on onsembl.commands using gin (tags);

-- What an operator's key has made: the same request again is answered with it.
create table onsembl.idempotency_keys (
    operator_id uuid not null,
    key text not null,
    request bytea not null,                     -- SHA-256 of what was asked
    made uuid,
    created_at timestamptz not null default now(),
    primary key (operator_id, key)
);
create index on onsembl.idempotency_keys (created_at);

alter table onsembl.command_groups enable row level security;
alter table onsembl.idempotency_keys enable row level security;
create policy api on onsembl.command_groups to onsembl_api using (true) with check (true);
create policy api on onsembl.idempotency_keys to onsembl_api using (true) with check (true);
grant select, insert on onsembl.command_groups to onsembl_api;
grant select, insert, update, delete on onsembl.idempotency_keys to onsembl_api;
