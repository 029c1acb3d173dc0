-- Reports: what agents found, as turns that are asked for a report answer. Kept beside the steps, and longer if pinned.

create table onsembl.reports (
    id uuid primary key default gen_random_uuid(),
    seq bigint generated always as identity unique,
    command_id uuid not null unique references onsembl.commands on delete cascade,
    agent_id uuid not null references onsembl.agents on delete cascade,
    conversation_id uuid references onsembl.conversations on delete set null,
    preset text,
    version integer not null check (version > 0),   -- within its conversation and preset
    superseded boolean not null default false,      -- by a later version
    title text not null check (length(title) <= 500),
    severities jsonb not null,                      -- how many findings of each severity, as {"high": 2}
    problem text,                                   -- why the answer is no report, though it was meant for one
    report jsonb,                                   -- null when the answer is prose, or has a problem
    text text not null,                             -- the answer as it came
    text_omitted bigint not null,                   -- the bytes of it that are missing
    pinned_at timestamptz,                          -- a pinned report is not deleted by retention
    pinned_by_name text,
    created_at timestamptz not null default now()
);
create index on onsembl.reports (agent_id, seq desc);
create index on onsembl.reports (conversation_id, preset) where conversation_id is not null;
create index on onsembl.reports (created_at) where pinned_at is null;

alter table onsembl.reports enable row level security;
create policy api on onsembl.reports to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.reports to onsembl_api;
create policy operators_read on onsembl.reports for select to authenticated using (onsembl.is_operator());
grant select (id, seq, command_id, agent_id, conversation_id, preset, version, superseded, title, severities, problem,
    pinned_at, pinned_by_name, created_at) on onsembl.reports to authenticated;

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table onsembl.reports;
    end if;
end
$$;

alter table onsembl.presets add report boolean not null default false;
