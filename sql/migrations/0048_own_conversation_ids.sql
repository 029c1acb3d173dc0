-- Some CLIs choose the id of a conversation themselves: it is known when the first turn has ended.
alter table onsembl.conversations add own_id text check (length(own_id) between 1 and 200);
grant select (own_id) on onsembl.conversations to authenticated;

-- As before, with the CLI's own id of the conversation.
create or replace function onsembl.end_turn(
    agent uuid, command uuid, outcome text, started timestamptz, ended timestamptz, exit_code integer, signal integer,
    error text, output_start bigint, output_end bigint, usage jsonb, passed text, channel text, task text,
    by_name text, address text, report jsonb
) returns setof onsembl.commands
    language plpgsql as
$$
#variable_conflict use_variable
begin
    perform from onsembl.agents where agents.id = agent for update;
    update onsembl.commands as c
        set denied = coalesce((report ->> 'denied')::integer, 0), denials = coalesce(report -> 'denials', '[]'),
            last_message = report ->> 'last_message'
        where c.id = command and c.agent_id = agent and c.state in ('dispatched', 'running')
            and report is not null;
    if found then
        update onsembl.conversations as c
            set folder = coalesce(report ->> 'folder', c.folder), branch = report ->> 'branch',
                model = coalesce(report ->> 'model', c.model),
                permission_mode = coalesce(report ->> 'permission_mode', c.permission_mode),
                context_tokens = coalesce((report ->> 'context_tokens')::bigint, c.context_tokens),
                context_window = coalesce((report ->> 'context_window')::bigint, c.context_window),
                own_id = coalesce(nullif(report ->> 'conversation', c.cli_id), c.own_id),
                state = case when (report ->> 'forgotten')::boolean then 'forgotten' else c.state end,
                active_at = now()
            where c.id = (select conversation_id from onsembl.commands where commands.id = command);
    end if;
    return query select * from onsembl.end_command(
        agent, command, outcome, started, ended, exit_code, signal, error, output_start, output_end, usage, passed,
        channel, task, by_name, address);
end
$$;
