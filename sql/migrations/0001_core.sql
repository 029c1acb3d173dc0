-- Agents, their streams and commands, the API's instances, operators, credentials and the audit log.
--
-- Two roles meet these tables. `onsembl_api` is the server: what it may do is granted table by table. `authenticated`
-- is an operator's browser behind Supabase: it reads the dashboard's state and writes nothing.

do $$
begin
    if not exists (select from pg_roles where rolname = 'onsembl_api') then
        create role onsembl_api nologin noinherit;
    end if;
    execute format('grant onsembl_api to %I', current_user);
end
$$;

create schema if not exists onsembl;
grant usage on schema onsembl to onsembl_api, authenticated;

-- Whether the request at hand is an operator's, of any role: `app_metadata.role` can be set only by an admin of the
-- project, never by the person.
create function onsembl.is_operator() returns boolean
    language sql stable
    return coalesce(auth.jwt() -> 'app_metadata' ->> 'role', '') in ('viewer', 'operator', 'admin');

grant execute on function onsembl.is_operator() to authenticated, onsembl_api;

create table onsembl.operators (
    id uuid primary key,                        -- the user's id in Supabase Auth
    email text not null,
    role text not null check (role in ('viewer', 'operator', 'admin')),
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

create table onsembl.instances (
    id uuid primary key default gen_random_uuid(),
    address text not null,                      -- where other instances reach this one
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    draining boolean not null default false
);

create table onsembl.agents (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    kind text not null check (kind in ('claude', 'codex', 'gemini', 'shell')),
    mode text not null default 'exec' check (mode in ('exec', 'interactive')),
    host text not null default '',
    platform text not null default '',
    version text not null default '',
    created_at timestamptz not null default now(),
    disabled_at timestamptz,
    -- Presence: written only under the newest epoch.
    status text not null default 'offline' check (status in ('online', 'offline')),
    epoch bigint not null default 0,
    instance_id uuid references onsembl.instances (id) on delete set null,
    connected_at timestamptz,
    disconnected_at timestamptz,
    -- The terminal in use.
    stream_id uuid,
    columns integer not null default 120,
    rows integer not null default 32
);

create table onsembl.streams (
    id uuid primary key default gen_random_uuid(),
    agent_id uuid not null references onsembl.agents (id) on delete cascade,
    created_at timestamptz not null default now()
);
create index on onsembl.streams (agent_id, created_at desc);

alter table onsembl.agents
    add foreign key (stream_id) references onsembl.streams (id) on delete set null;

create table onsembl.commands (
    id uuid primary key default gen_random_uuid(),
    seq bigint generated always as identity unique, -- age, within a priority
    agent_id uuid not null references onsembl.agents (id) on delete cascade,
    text text not null check (length(text) between 1 and 100000),
    priority smallint not null default 5 check (priority between 1 and 10), -- 1 is first
    state text not null default 'queued' check (
        state in ('queued', 'dispatched', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'lost')),
    requested_by uuid,
    requested_by_name text not null default '',
    created_at timestamptz not null default now(),
    dispatched_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    cancel_requested_at timestamptz,
    cancel_requested_by uuid,
    cancel_reason text,
    cancel_step jsonb,                          -- the last rung climbed: {"step", "at", "processes_left"}
    exit_code integer,
    signal integer,
    error text,
    stream_id uuid references onsembl.streams (id) on delete set null,
    output_start bigint,                        -- its output is [output_start, output_end) of the stream
    output_end bigint,
    usage jsonb,
    job_id bigint,                              -- the Procrastinate job that runs it
    delivery_attempts smallint not null default 0 -- times it was offered in vain
);

-- One line an agent: at most one command of an agent is dispatched or running.
create unique index commands_one_active on onsembl.commands (agent_id) where state in ('dispatched', 'running');
create index commands_line on onsembl.commands (agent_id, priority, seq) where state = 'queued';
create index commands_history on onsembl.commands (agent_id, seq desc);

create table onsembl.enrolment_tokens (
    token_hash bytea primary key,               -- SHA-256 of the token
    name_pattern text not null default '*',     -- agent names it may enrol, as a glob
    created_by uuid,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    agent_id uuid references onsembl.agents (id) on delete set null
);

create table onsembl.refresh_tokens (
    token_hash bytea primary key,               -- SHA-256 of the token
    family uuid not null,                       -- all that descend from one enrolment
    agent_id uuid not null references onsembl.agents (id) on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    revoked_at timestamptz
);
create index on onsembl.refresh_tokens (family);
create index on onsembl.refresh_tokens (agent_id);

-- Keys that sign agents' access tokens (ES256). The newest signs; all that are not retired verify.
create table onsembl.signing_keys (
    kid text primary key,
    private_pem text not null,
    created_at timestamptz not null default now(),
    retired_at timestamptz
);

create table onsembl.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor_kind text not null check (actor_kind in ('operator', 'agent', 'system', 'anonymous')),
    actor_id uuid,
    actor_name text not null default '',
    action text not null,
    target_kind text not null default '',
    target_id text not null default '',
    address text not null default '',           -- where the request came from
    outcome text not null check (outcome in ('ok', 'refused', 'failed')),
    detail jsonb not null default '{}'
);
create index on onsembl.audit (at desc);

-- Row-level security on every table: nobody but the roles named here sees or writes a row.
alter table onsembl.operators enable row level security;
alter table onsembl.instances enable row level security;
alter table onsembl.agents enable row level security;
alter table onsembl.streams enable row level security;
alter table onsembl.commands enable row level security;
alter table onsembl.enrolment_tokens enable row level security;
alter table onsembl.refresh_tokens enable row level security;
alter table onsembl.signing_keys enable row level security;
alter table onsembl.audit enable row level security;

create policy api on onsembl.operators to onsembl_api using (true) with check (true);
create policy api on onsembl.instances to onsembl_api using (true) with check (true);
create policy api on onsembl.agents to onsembl_api using (true) with check (true);
create policy api on onsembl.streams to onsembl_api using (true) with check (true);
create policy api on onsembl.commands to onsembl_api using (true) with check (true);
create policy api on onsembl.enrolment_tokens to onsembl_api using (true) with check (true);
create policy api on onsembl.refresh_tokens to onsembl_api using (true) with check (true);
create policy api on onsembl.signing_keys to onsembl_api using (true) with check (true);
create policy api on onsembl.audit to onsembl_api using (true) with check (true);

create policy operators_read on onsembl.agents for select to authenticated using (onsembl.is_operator());
create policy operators_read on onsembl.streams for select to authenticated using (onsembl.is_operator());
create policy operators_read on onsembl.commands for select to authenticated using (onsembl.is_operator());

grant select, insert, update on onsembl.operators to onsembl_api;
grant select, insert, update, delete on onsembl.instances to onsembl_api;
grant select, insert, update, delete on onsembl.agents to onsembl_api;
grant select, insert, delete on onsembl.streams to onsembl_api;
grant select, insert, update on onsembl.commands to onsembl_api;
grant select, insert, update, delete on onsembl.enrolment_tokens to onsembl_api;
grant select, insert, update, delete on onsembl.refresh_tokens to onsembl_api;
grant select, insert, update on onsembl.signing_keys to onsembl_api;
grant select, insert on onsembl.audit to onsembl_api;

grant select on onsembl.agents, onsembl.streams, onsembl.commands to authenticated;

alter publication supabase_realtime add table onsembl.agents, onsembl.commands;
