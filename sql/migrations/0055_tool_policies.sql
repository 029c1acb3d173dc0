-- Tools that an admin keeps for admins, or denies to everybody: for one agent, for the agents with a label, or for all.

create table onsembl.tool_policies (
    id uuid primary key default gen_random_uuid(),
    seq bigint generated always as identity unique,
    verdict text not null check (verdict in ('admin', 'deny')),  -- who answers a request for it: an admin, or nobody
    rule text not null check (length(rule) <= 256),
    agent_id uuid references onsembl.agents on delete cascade,
    label text check (length(label) <= 64),
    created_at timestamptz not null default now(),
    created_by_name text not null,
    check (agent_id is null or label is null)  -- neither: all agents
);
create unique index on onsembl.tool_policies (verdict, rule, agent_id, label) nulls not distinct;
create index on onsembl.tool_policies (agent_id) where agent_id is not null;

alter table onsembl.tool_policies enable row level security;
create policy api on onsembl.tool_policies to onsembl_api using (true) with check (true);
grant select, insert, delete on onsembl.tool_policies to onsembl_api;
