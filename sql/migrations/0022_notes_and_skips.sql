-- Words are looked for in notes as in texts. Most commands have none, and cost nothing here.
do $$
declare
    place text;
begin
    select nspname into place from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
    where extname = 'pg_trgm';
    if place is not null then
        execute format(
            'create index commands_note_trigrams on onsembl.commands using gin (note %I.gin_trgm_ops) where note <> %L',
            place, '');
    end if;
end
$$;

-- A schedule that comes again passes over an agent in whose line the command of an earlier time still waits: the names
-- of those, and how such a command is found.
alter table onsembl.schedule_runs add skipped text[] not null default '{}';
create index on onsembl.schedule_runs (command_id) where command_id is not null;
create index on onsembl.schedule_runs (group_id) where group_id is not null;
