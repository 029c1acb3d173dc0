-- The usage limits of coding CLIs' vendors: the windows of an agent's plan, and until when an agent waits that has reached
-- one. Its queue waits, too; a command that is to fail in place of waiting has `on_limit` 'fail' in its limits.

alter table onsembl.agents
    add rate_windows jsonb not null default '[]' check (jsonb_typeof(rate_windows) = 'array'),
    add rate_windows_at timestamptz,                                        -- when its CLI has reported them
    add limited_since timestamptz,
    add limited_until timestamptz,
    add limit_strikes integer not null default 0 check (limit_strikes >= 0),    -- since its last successful turn
    add check ((limited_since is null) = (limited_until is null));
alter table onsembl.commands
    add continues uuid references onsembl.commands on delete set null,  -- the command whose turn ended at a limit
    add continuation integer not null default 0 check (continuation >= 0);  -- how many commands it continues
create index on onsembl.commands (continues) where continues is not null;

grant select (rate_windows, rate_windows_at, limited_since, limited_until) on onsembl.agents to authenticated;
grant select (continues) on onsembl.commands to authenticated;

-- The queued commands of a limited agent that are not to wait fail.
create function onsembl.fail_at_limit(agent uuid) returns void
    language plpgsql as
$$
#variable_conflict use_variable
declare
    failed uuid;
begin
    for failed in
        update onsembl.commands as c
            set state = 'failed', ended_at = now(),
                error = 'The agent has reached a usage limit of its vendor, and the command was not to wait.'
            from onsembl.agents as a
            where a.id = agent and c.agent_id = agent and c.state = 'queued' and coalesce(c.steer_state, 'late') = 'late'
              and onsembl.narrower(c.limits, a.limits) ->> 'on_limit' = 'fail'
            returning c.id
    loop
        insert into onsembl.audit (actor_kind, actor_name, action, target_kind, target_id, outcome, detail)
            values ('system', 'system', 'command.ended', 'command', failed::text, 'ok',
                jsonb_build_object('state', 'failed', 'exit_code', null, 'signal', null));
        perform pg_notify('onsembl_command', failed || ' failed');
    end loop;
end
$$;
grant execute on function onsembl.fail_at_limit(uuid) to onsembl_api;

-- As before, for an agent that has not reached a limit of its vendor.
create or replace function onsembl.promote(agent uuid, task text) returns setof onsembl.commands
    language plpgsql as
$$
declare
    head uuid;
begin
    if exists (select from onsembl.agents where id = agent and limited_until is not null) then
        perform onsembl.fail_at_limit(agent);
        return;
    end if;
    select id into head from onsembl.commands
        where agent_id = agent and state = 'queued' and coalesce(steer_state, 'late') = 'late'
          and exists (
              select from onsembl.agents
              where id = agent and status = 'online' and disabled_at is null and paused_at is null and problem is null)
          and not exists (select from onsembl.halts where lifted_at is null)
          and not exists (
              select from onsembl.commands as occupant
              where occupant.agent_id = agent and occupant.state in ('dispatched', 'running'))
        order by priority, coalesce(position, seq), seq
        limit 1
        for update;
    if not found then
        return;
    end if;
    return query
        update onsembl.commands
            set state = 'dispatched', dispatched_at = now(), job_id = onsembl.defer_command(agent, head, task),
                limits = onsembl.narrower(limits, (select agents.limits from onsembl.agents where agents.id = agent))
            where id = head
            returning *;
end
$$;

-- As before; a command that fails at once is returned as it is then.
create or replace function onsembl.request_turn(
    agent uuid, text text, priority integer, preset text, request_id text, limits jsonb, task text,
    by_kind text, by_id uuid, by_name text, address text, detail jsonb, conversation text, settings jsonb
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
            (agent_id, text, priority, requested_by, requested_by_name, preset, request_id, limits,
             conversation_id, turn)
        select agent, text, priority, by_id, by_name, preset, request_id, limits, t.conversation_id, t.turn
        from onsembl.next_turn(agent, conversation, text, settings) as t
        returning * into made;
    if not found then
        return;
    end if;
    insert into onsembl.audit
            (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
        values (by_kind, by_id, by_name, address, 'command.requested', 'command', made.id::text, 'ok',
            detail || case when made.conversation_id is null then '{}'
                else jsonb_build_object('conversation_id', made.conversation_id) end);
    return query select * from onsembl.promote(agent, task) as promoted where promoted.id = made.id;
    if not found then
        return query select * from onsembl.commands as c where c.id = made.id;
    end if;
end
$$;

-- A command that continues one whose turn ended at a limit, first in its agent's queue: with its settings, in its
-- conversation, with `next_text`, or with its own text and files when that is null. No row comes back when the
-- conversation is forgotten, or when the command was continued `most` times.
create function onsembl.continue_command(command uuid, next_text text, most integer) returns setof onsembl.commands
    language plpgsql as
$$
#variable_conflict use_variable
declare
    over onsembl.commands;
    made onsembl.commands;
    settings jsonb;
    place double precision;
begin
    select * into over from onsembl.commands as c where c.id = command;
    perform from onsembl.agents where agents.id = over.agent_id and disabled_at is null for update;
    if not found or over.conversation_id is null or over.continuation >= most then
        return;
    end if;
    select coalesce(jsonb_object_agg(key, value), '{}') into settings from jsonb_each(over.turn)
        where key in ('model', 'effort', 'rules', 'report') or key = 'attachments' and next_text is null
            or key = 'permission_mode' and onsembl.permission_rank(value #>> '{}') <=
                onsembl.permission_rank((select permission_mode from onsembl.agents where agents.id = over.agent_id));
    select min(coalesce(c.position, c.seq)) - 1 into place from onsembl.commands as c
        where c.agent_id = over.agent_id and c.state = 'queued' and c.priority = over.priority;
    insert into onsembl.commands
            (agent_id, text, priority, requested_by, requested_by_name, preset, request_id, limits, group_id, tags,
             conversation_id, turn, position, continues, continuation)
        select over.agent_id, coalesce(next_text, over.text), over.priority, over.requested_by, over.requested_by_name,
            over.preset, over.request_id, over.limits, over.group_id, over.tags, t.conversation_id, t.turn, place,
            over.id, over.continuation + 1
        from onsembl.next_turn(over.agent_id, over.conversation_id::text, over.text, settings) as t
        where t.conversation_id is not null
        returning * into made;
    if not found then
        return;
    end if;
    if next_text is null then
        insert into onsembl.command_attachments (command_id, attachment_id)
            select made.id, attachment_id from onsembl.command_attachments as a where a.command_id = over.id;
    end if;
    insert into onsembl.audit (actor_kind, actor_name, action, target_kind, target_id, outcome, detail)
        values ('system', 'system', 'command.continued', 'command', made.id::text, 'ok',
            jsonb_build_object('continues', over.id, 'agent_id', over.agent_id));
    return next made;
end
$$;
grant execute on function onsembl.continue_command(uuid, text, integer) to onsembl_api;

-- A turn that succeeds proves that its agent is not limited.
create function onsembl.forget_limit() returns trigger
    language plpgsql as
$$
begin
    update onsembl.agents set limit_strikes = 0, limited_since = null, limited_until = null
        where id = new.agent_id and (limit_strikes > 0 or limited_until is not null);
    return null;
end
$$;
create trigger forget_limit after update of state on onsembl.commands
    for each row
    when (old.state in ('dispatched', 'running') and new.state = 'succeeded' and new.conversation_id is not null)
    execute function onsembl.forget_limit();
