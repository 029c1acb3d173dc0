-- Agents of the kind `acp` run any CLI that speaks the Agent Client Protocol; `cli` is the name of its program.
alter table onsembl.agents drop constraint agents_kind_check;
alter table onsembl.agents
    add constraint agents_kind_check check (kind in ('claude', 'codex', 'gemini', 'acp', 'shell')),
    add cli text check (length(cli) between 1 and 64);
alter table onsembl.device_requests drop constraint device_requests_kind_check;
alter table onsembl.device_requests
    add constraint device_requests_kind_check check (kind in ('claude', 'codex', 'gemini', 'acp', 'shell'));
alter table onsembl.presets drop constraint presets_kind_check;
alter table onsembl.presets
    add constraint presets_kind_check check (kind in ('claude', 'codex', 'gemini', 'acp', 'shell'));
alter table onsembl.presets drop constraint presets_kinds_check;
alter table onsembl.presets
    add constraint presets_kinds_check check (kinds <@ array ['claude', 'codex', 'gemini', 'acp', 'shell']);
grant select (cli) on onsembl.agents to authenticated;
