-- Notes of the control center among the requests of agents: a turn that has failed, and a usage limit of the vendor.
-- They have no answer: a person looks at them and dismisses them. Nobody waits for that.

alter table onsembl.attention
    drop constraint attention_kind_check,
    add constraint attention_kind_check
        check (kind in ('permission', 'question', 'plan', 'elicitation', 'idle', 'failed', 'limit'));
create index on onsembl.attention (agent_id) where state = 'open' and kind in ('failed', 'limit');

-- As before; a command that was lost, or a turn of a coding CLI that has failed, leaves a note. A conversation has one.
create or replace function onsembl.withdraw_requests() returns trigger
    language plpgsql set search_path = '' as
$$
declare
    body jsonb;
begin
    update onsembl.attention
        set state = 'withdrawn', closed_at = now(), reason = 'The command has ended.'
        where command_id = new.id and state = 'open';
    update onsembl.attention
        set delivery = 'unknown', secret_decision = null
        where command_id = new.id and delivery = 'waiting';
    if new.state <> 'lost' and (new.state <> 'failed' or new.turn is null or old.state = 'queued') then
        return null;
    end if;
    update onsembl.attention
        set state = 'withdrawn', closed_at = now(), reason = 'A later command has failed, too.'
        where agent_id = new.agent_id and conversation_id is not distinct from new.conversation_id
            and kind = 'failed' and state = 'open';
    body := jsonb_build_object('kind', 'failed', 'state', new.state, 'text', left(coalesce(new.error, ''), 4096));
    insert into onsembl.attention (id, agent_id, command_id, conversation_id, kind, title, body, digest)
        values (gen_random_uuid(), new.agent_id, new.id, new.conversation_id, 'failed',
            left(split_part(new.text, E'\n', 1), 256), body, encode(sha256(convert_to(body::text, 'UTF8')), 'hex'));
    return null;
end
$$;

-- An agent that goes on has no note of its limit.
create function onsembl.withdraw_limit() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    update onsembl.attention set state = 'withdrawn', closed_at = now(), reason = 'The agent goes on.'
        where agent_id = new.id and kind = 'limit' and state = 'open';
    return null;
end
$$;
create trigger withdraw_limit after update of limited_until on onsembl.agents
    for each row when (old.limited_until is not null and new.limited_until is null)
    execute function onsembl.withdraw_limit();
