-- Schedules: commands that come by themselves, once or again and again.

create table onsembl.schedules (
    id uuid primary key default gen_random_uuid(),
    name text not null check (length(name) between 1 and 64),
    target jsonb not null,                      -- as of a group: {"agents": […]}, {"labels": […]} or {"all": true}
    text text check (length(text) between 1 and 100000),
    preset text,
    "values" jsonb not null default '{}',       -- for the preset's variables
    priority smallint check (priority between 1 and 10), -- null: the preset's, or the usual one
    cron text,
    time_zone text not null default 'UTC',      -- in which `cron` is meant
    at timestamptz,
    next_at timestamptz,                        -- null: paused, or nothing more is to come
    paused_at timestamptz,
    paused_by_name text,
    revision integer not null default 1,        -- grows with each change that a person makes
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    updated_by uuid not null,                   -- in whose name its commands are asked for
    updated_by_name text not null,
    check ((text is null) <> (preset is null)),
    check ((cron is null) <> (at is null))
);
create unique index schedules_by_name on onsembl.schedules (lower(name));
create index schedules_due on onsembl.schedules (next_at) where next_at is not null;

-- Each firing, once for the time that it was due at: what it made, or why it could not.
create table onsembl.schedule_runs (
    schedule_id uuid not null references onsembl.schedules (id) on delete cascade,
    due_at timestamptz not null,
    ran_at timestamptz not null default now(),
    command_id uuid references onsembl.commands (id) on delete set null,
    group_id uuid references onsembl.command_groups (id) on delete set null,
    error text,
    primary key (schedule_id, due_at)
);

alter table onsembl.schedules enable row level security;
alter table onsembl.schedule_runs enable row level security;
create policy api on onsembl.schedules to onsembl_api using (true) with check (true);
create policy api on onsembl.schedule_runs to onsembl_api using (true) with check (true);
create policy operators_read on onsembl.schedules for select to authenticated using (onsembl.is_operator());
grant select, insert, update, delete on onsembl.schedules to onsembl_api;
grant select, insert, update, delete on onsembl.schedule_runs to onsembl_api;
grant select on onsembl.schedules to authenticated;

alter publication supabase_realtime add table onsembl.schedules;
