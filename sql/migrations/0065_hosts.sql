-- Machines on which agents can be started from elsewhere (`onsembl agent host`), and the agents that were requested there.

create table onsembl.hosts (
    id uuid primary key default gen_random_uuid(),
    name text not null unique check (length(name) between 1 and 64),
    secret_hash bytea not null unique,
    machine text not null check (length(machine) <= 256),
    platform text not null check (length(platform) <= 256),
    kinds text[] not null default '{}',    -- what its owner allows, as of its last connection
    folders text[] not null default '{}',
    max_agents int not null default 0,
    running int not null default 0,        -- agents that it runs, as of its last request
    epoch bigint not null default 0,       -- of its last connection; requests of earlier ones are rejected
    connected_until timestamptz,           -- each request extends it
    created_at timestamptz not null default now()
);

create table onsembl.agent_starts (
    id uuid primary key default gen_random_uuid(),
    host_id uuid not null references onsembl.hosts on delete cascade,
    name text not null check (length(name) between 1 and 64),
    kind text not null check (length(kind) <= 80),
    folder text not null check (length(folder) <= 1024),
    requested_at timestamptz not null default now(),
    -- 'enrolled': the host has the agent's credentials. The last five are final.
    state text not null default 'requested'
        check (state in ('requested', 'enrolled', 'started', 'refused', 'failed', 'expired', 'ended')),
    reason text not null default '' check (length(reason) <= 1024),
    agent_id uuid references onsembl.agents on delete set null
);
create index on onsembl.agent_starts (host_id, requested_at);
create index on onsembl.agent_starts (agent_id) where agent_id is not null;

alter table onsembl.hosts enable row level security;
create policy api on onsembl.hosts to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.hosts to onsembl_api;
alter table onsembl.agent_starts enable row level security;
create policy api on onsembl.agent_starts to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.agent_starts to onsembl_api;
