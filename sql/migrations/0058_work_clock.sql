-- A command's working time, which stands still while the command only waits for a person. The limit `wall_seconds` is now
-- `work_seconds`; the release before still writes the old name, which is renamed as it is written.

alter table onsembl.commands
    add stands_still boolean,           -- as the agent says; null: it has not said it
    add stood_still float8,             -- the seconds for which it stood still, as the agent says
    drop constraint commands_limit_passed_check;

-- Limits with the new name; of two with both names the narrower.
create function onsembl.renamed_limits(limits jsonb) returns jsonb
    language sql immutable set search_path = '' as
$$
    select limits - 'wall_seconds'
        || jsonb_build_object('work_seconds', least(limits -> 'work_seconds', limits -> 'wall_seconds'))
$$;
grant execute on function onsembl.renamed_limits(jsonb) to onsembl_api;

create function onsembl.rename_limits() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    new.limits := onsembl.renamed_limits(new.limits);
    return new;
end
$$;

do $$
declare
    place text;
begin
    foreach place in array array['agents', 'presets', 'schedules', 'command_groups', 'commands'] loop
        execute format(
            'update onsembl.%I set limits = onsembl.renamed_limits(limits) where limits ? ''wall_seconds''', place);
        execute format(
            'create trigger rename_limits before insert or update of limits on onsembl.%I
                for each row when (new.limits ? ''wall_seconds'') execute function onsembl.rename_limits()', place);
    end loop;
end
$$;

create function onsembl.rename_limit_passed() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    new.limit_passed := case when new.limit_passed = 'wall_seconds' then 'work_seconds' else new.limit_passed end;
    if new.cancel_step ->> 'limit' = 'wall_seconds' then
        new.cancel_step := new.cancel_step || '{"limit": "work_seconds"}';
    end if;
    return new;
end
$$;
create trigger rename_limit_passed before insert or update of limit_passed, cancel_step on onsembl.commands
    for each row when (new.limit_passed = 'wall_seconds' or new.cancel_step ->> 'limit' = 'wall_seconds')
    execute function onsembl.rename_limit_passed();
update onsembl.commands set limit_passed = limit_passed, cancel_step = cancel_step
    where limit_passed = 'wall_seconds' or cancel_step ->> 'limit' = 'wall_seconds';
alter table onsembl.commands add constraint commands_limit_passed_check
    check (limit_passed in ('work_seconds', 'idle_seconds', 'waiting_seconds', 'tokens', 'cost_usd'));
