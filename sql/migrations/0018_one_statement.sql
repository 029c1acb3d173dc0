-- What every command goes through, its request and its end, each in one statement: one round trip instead of six.

-- Puts a command in an agent's line, with its mark in the audit log, and promotes the line's head; the command's row.
-- Nothing is changed, and no row comes back, when there is no such agent or it is disabled.
create function onsembl.request_command(
    agent uuid, text text, priority integer, preset text, request_id text, limits jsonb, task text,
    by_kind text, by_id uuid, by_name text, address text, detail jsonb
) returns setof onsembl.commands
    language plpgsql as
$$
#variable_conflict use_variable
declare
    made onsembl.commands;
begin
    perform from onsembl.agents where agents.id = agent and disabled_at is null for update;
    if not found then
        return;
    end if;
    insert into onsembl.commands
            (agent_id, text, priority, requested_by, requested_by_name, preset, request_id, limits)
        values (agent, text, priority, by_id, by_name, preset, request_id, limits)
        returning * into made;
    insert into onsembl.audit
            (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
        values (by_kind, by_id, by_name, address, 'command.requested', 'command', made.id::text, 'ok', detail);
    return query select * from onsembl.promote(agent, task) as promoted where promoted.id = made.id;
    if not found then
        return next made;
    end if;
end
$$;
grant execute on function onsembl.request_command(
    uuid, text, integer, text, text, jsonb, text, text, uuid, text, text, jsonb) to onsembl_api;

-- Writes the end of a command that occupies its agent, with its mark in the audit log, and tells whoever waits for it;
-- the command's row, or none when its end was written before. What the server had stopped at a limit has timed out,
-- whoever else says that it was cancelled. With a `task` the line's head is promoted in its place; that one's row
-- follows.
create function onsembl.end_command(
    agent uuid, command uuid, outcome text, started timestamptz, ended timestamptz, exit_code integer, signal integer,
    error text, output_start bigint, output_end bigint, usage jsonb, passed text, channel text, task text,
    by_name text, address text
) returns setof onsembl.commands
    language plpgsql as
$$
#variable_conflict use_variable
declare
    over onsembl.commands;
begin
    perform from onsembl.agents where agents.id = agent for update;
    update onsembl.commands as c
        set state = case when outcome = 'cancelled' and c.limit_passed is not null then 'timed_out' else outcome end,
            limit_passed = coalesce(passed, c.limit_passed),
            ended_at = ended, started_at = coalesce(c.started_at, started),
            exit_code = exit_code, signal = signal, error = error,
            output_start = coalesce(c.output_start, output_start), output_end = output_end,
            usage = coalesce(usage, c.usage)
        where c.id = command and c.agent_id = agent and c.state in ('dispatched', 'running')
        returning * into over;
    if not found then
        return;
    end if;
    perform pg_notify(channel, over.id || ' ' || over.state);
    insert into onsembl.audit
            (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
        values ('agent', agent, by_name, address, 'command.ended', 'command', over.id::text, 'ok',
            jsonb_build_object('state', over.state, 'exit_code', over.exit_code, 'signal', over.signal)
            || case when over.limit_passed is null then '{}' else jsonb_build_object('limit', over.limit_passed) end);
    return next over;
    if task is not null then
        return query select * from onsembl.promote(agent, task);
    end if;
end
$$;
grant execute on function onsembl.end_command(
    uuid, uuid, text, timestamptz, timestamptz, integer, integer, text, bigint, bigint, jsonb, text, text, text, text,
    text) to onsembl_api;
