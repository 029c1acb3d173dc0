-- Presets: named templates of commands' texts. Those that ship are in the program, not here.

create table onsembl.presets (
    name text primary key check (length(name) between 1 and 64),
    description text not null default '',
    template text not null check (length(template) between 1 and 100000),
    variables jsonb not null default '[]',
    priority smallint check (priority between 1 and 10),
    kind text check (kind in ('claude', 'codex', 'gemini', 'shell')),
    revision integer not null default 1,        -- grows with each change
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    updated_by uuid,
    updated_by_name text not null default ''
);
create unique index presets_by_name on onsembl.presets (lower(name));

alter table onsembl.presets enable row level security;
create policy api on onsembl.presets to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.presets to onsembl_api;

-- The preset that a text was made of, by its name of then.
alter table onsembl.commands add preset text;
alter table onsembl.command_groups add preset text;
