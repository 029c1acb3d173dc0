-- An agent's clock may be wrong. The server knows two bounds: a command starts after its dispatch, and whatever an agent
-- reports has happened when the report comes.

-- The start and the end of a command by the server's clock. Their distance is measured by the agent's clock and is kept
-- as far as the bounds allow; `known` is the start as it was recorded before.
create function onsembl.bounded_times(
    started timestamptz, ended timestamptz, known timestamptz, earliest timestamptz, latest timestamptz,
    out begun timestamptz, out finished timestamptz
)
    language plpgsql immutable as
$$
declare
    upto timestamptz := greatest(earliest, latest);
    took interval := greatest(ended - started, interval '0');
begin
    if known is not null then
        begun := least(known, upto);
    elsif started is not null then
        begun := least(greatest(started, earliest), greatest(upto - took, earliest));
    end if;
    finished := case when started is null then least(greatest(ended, earliest, begun), upto)
        else least(begun + took, upto) end;
end
$$;
grant execute on function onsembl.bounded_times(timestamptz, timestamptz, timestamptz, timestamptz, timestamptz)
    to onsembl_api;

-- As before, with times within the bounds. The audit log has the seconds by which the agent's end differs, if these are
-- more than one.
create or replace function onsembl.end_command(
    agent uuid, command uuid, outcome text, started timestamptz, ended timestamptz, exit_code integer, signal integer,
    error text, output_start bigint, output_end bigint, usage jsonb, passed text, channel text, task text,
    by_name text, address text
) returns setof onsembl.commands
    language plpgsql as
$$
#variable_conflict use_variable
declare
    over onsembl.commands;
    off_by double precision;
begin
    perform from onsembl.agents where agents.id = agent for update;
    update onsembl.commands as c
        set state = case when outcome = 'cancelled' and c.limit_passed is not null then 'timed_out' else outcome end,
            limit_passed = coalesce(passed, c.limit_passed),
            ended_at = (onsembl.bounded_times(
                started, ended, c.started_at, coalesce(c.dispatched_at, c.created_at), now())).finished,
            started_at = (onsembl.bounded_times(
                started, ended, c.started_at, coalesce(c.dispatched_at, c.created_at), now())).begun,
            exit_code = exit_code, signal = signal, error = error,
            output_start = coalesce(c.output_start, output_start), output_end = output_end,
            usage = coalesce(usage, c.usage)
        where c.id = command and c.agent_id = agent and c.state in ('dispatched', 'running')
        returning * into over;
    if not found then
        return;
    end if;
    perform pg_notify(channel, over.id || ' ' || over.state);
    off_by := extract(epoch from ended - over.ended_at);
    insert into onsembl.audit
            (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
        values ('agent', agent, by_name, address, 'command.ended', 'command', over.id::text, 'ok',
            jsonb_build_object('state', over.state, 'exit_code', over.exit_code, 'signal', over.signal)
            || case when over.limit_passed is null then '{}' else jsonb_build_object('limit', over.limit_passed) end
            || case when abs(off_by) > 1 then jsonb_build_object('clock_off_by', round(off_by)) else '{}' end);
    return next over;
    if task is not null then
        return query select * from onsembl.promote(agent, task);
    end if;
end
$$;
