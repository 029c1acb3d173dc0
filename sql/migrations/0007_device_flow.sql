-- Agents that ask to be let in, until somebody decides (RFC 8628).

create table onsembl.device_requests (
    id uuid primary key default gen_random_uuid(),
    device_hash bytea not null unique,          -- SHA-256 of the code that the agent polls with
    user_code text not null unique,             -- what the person compares
    name text not null,
    kind text not null check (kind in ('claude', 'codex', 'gemini', 'shell')),
    mode text not null check (mode in ('exec', 'interactive')),
    host text not null,
    platform text not null,
    address text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    polled_at timestamptz,
    poll_seconds double precision not null,     -- how long to wait between polls; it grows for one that hurries
    state text not null default 'waiting' check (state in ('waiting', 'approved', 'refused')),
    decided_at timestamptz,
    decided_by uuid,
    agent_id uuid references onsembl.agents (id) on delete cascade,
    taken_at timestamptz                        -- when the credentials were first given out
);
create index on onsembl.device_requests (expires_at);
alter table onsembl.device_requests enable row level security;
create policy api on onsembl.device_requests to onsembl_api using (true) with check (true);
create policy operators_read on onsembl.device_requests for select to authenticated
    using ((select onsembl.is_operator()));
grant select, insert, update, delete on onsembl.device_requests to onsembl_api;
grant select (id, user_code, name, kind, mode, host, platform, address, created_at, expires_at, state, decided_at,
              decided_by, agent_id) on onsembl.device_requests to authenticated;
alter publication supabase_realtime add table onsembl.device_requests;
