-- A restored backup does not know the tokens that were issued after it was made. With its recovery secret, made at
-- enrolment, an agent gets new ones without a person at its machine, once in each recovery that an admin opens.

create table onsembl.recovery_secrets (
    agent_id uuid primary key references onsembl.agents on delete cascade,
    secret_hash bytea not null unique,
    created_at timestamptz not null default now()
);

create table onsembl.recoveries (
    id uuid primary key default gen_random_uuid(),
    opened_at timestamptz not null default now(),
    opened_by uuid not null,
    opened_by_name text not null,
    ends_at timestamptz not null,
    closed_at timestamptz,
    closed_by_name text
);
create unique index recoveries_open on onsembl.recoveries ((true)) where closed_at is null;

create table onsembl.recovered_agents (
    recovery_id uuid not null references onsembl.recoveries,
    agent_id uuid not null references onsembl.agents on delete cascade,
    family uuid not null, -- of the refresh tokens that the agent got
    at timestamptz not null default now(),
    primary key (recovery_id, agent_id)
);
create index on onsembl.recovered_agents (agent_id);

alter table onsembl.recovery_secrets enable row level security;
alter table onsembl.recoveries enable row level security;
alter table onsembl.recovered_agents enable row level security;
create policy api on onsembl.recovery_secrets to onsembl_api using (true) with check (true);
create policy api on onsembl.recoveries to onsembl_api using (true) with check (true);
create policy api on onsembl.recovered_agents to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.recovery_secrets, onsembl.recoveries, onsembl.recovered_agents
    to onsembl_api;

alter table onsembl.alerts drop constraint alerts_kind_check;
alter table onsembl.alerts add constraint alerts_kind_check
    check (kind in ('refresh_token_reused', 'recovery_secret_reused'));
