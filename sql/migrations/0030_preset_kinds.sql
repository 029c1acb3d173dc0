-- A preset names the kinds of agents that it is for; an empty array is for every kind. While the release before runs
-- beside this one, it reads and writes `kind` alone: a preset with a `kind` is for that kind.
alter table onsembl.presets add kinds text[] not null default '{}'
    check (kinds <@ array ['claude', 'codex', 'gemini', 'shell']);
