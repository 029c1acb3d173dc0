-- Agents that show the files of their working folders, and what operators see of them.
alter table onsembl.agents
    add shows_files boolean not null default false,
    add file_rules jsonb not null default '{}' check (jsonb_typeof(file_rules) = 'object');

grant select (shows_files, file_rules) on onsembl.agents to authenticated;
