-- The event of a command's end has the count of its tool calls that were not allowed.

-- As before, with the count.
create or replace function onsembl.command_events() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    if new.state in ('succeeded', 'failed', 'cancelled', 'timed_out', 'lost') then
        insert into onsembl.event_outbox (kind, agent_id, command_id, conversation_id, detail)
            values ('command.ended', new.agent_id, new.id, new.conversation_id, jsonb_build_object(
                'state', new.state, 'text', left(new.text, 200), 'exit_code', new.exit_code, 'signal', new.signal,
                'error', left(new.error, 1000), 'limit_passed', new.limit_passed, 'denied', new.denied));
    end if;
    if old.state in ('dispatched', 'running') or new.state in ('dispatched', 'running') then
        insert into onsembl.event_outbox (kind, agent_id) values ('agent.changed', new.agent_id);
    end if;
    return null;
end
$$;
