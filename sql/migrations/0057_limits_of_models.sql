-- A usage limit of a vendor may be of one model: then queued commands that name another model go on. A command that names
-- none waits, for which model its CLI would take is not known here.

alter table onsembl.agents add limited_model text
    check (length(limited_model) between 1 and 64);  -- part of the names of the models that the last limit was of; null: of all
grant select (limited_model) on onsembl.agents to authenticated;

-- Whether a turn may be of a model that a limit is of.
create function onsembl.limit_is_of(limited_model text, turn jsonb) returns boolean
    language sql immutable set search_path = '' as
$$
    select limited_model is null or turn ->> 'model' is null or strpos(lower(turn ->> 'model'), limited_model) > 0
$$;
grant execute on function onsembl.limit_is_of(text, jsonb) to onsembl_api;

-- As before, of the commands that would wait.
create or replace function onsembl.fail_at_limit(agent uuid) returns void
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
              and onsembl.limit_is_of(a.limited_model, c.turn)
            returning c.id
    loop
        insert into onsembl.audit (actor_kind, actor_name, action, target_kind, target_id, outcome, detail)
            values ('system', 'system', 'command.ended', 'command', failed::text, 'ok',
                jsonb_build_object('state', 'failed', 'exit_code', null, 'signal', null));
        perform pg_notify('onsembl_command', failed || ' failed');
    end loop;
end
$$;

-- As before; of an agent at a limit, the first command of another model, which does not overtake one of its conversation.
create or replace function onsembl.promote(agent uuid, task text) returns setof onsembl.commands
    language plpgsql as
$$
declare
    head uuid;
    limited boolean;
    model text;
begin
    select a.limited_until is not null, a.limited_model into limited, model
        from onsembl.agents as a where a.id = agent;
    if limited then
        perform onsembl.fail_at_limit(agent);
        if model is null then
            return;
        end if;
    end if;
    select id into head from onsembl.commands as c
        where agent_id = agent and state = 'queued' and coalesce(steer_state, 'late') = 'late'
          and not (limited and (onsembl.limit_is_of(model, turn) or exists (
              select from onsembl.commands as earlier
              where earlier.agent_id = agent and earlier.state = 'queued'
                and earlier.conversation_id = c.conversation_id and onsembl.limit_is_of(model, earlier.turn)
                and (earlier.priority, coalesce(earlier.position, earlier.seq), earlier.seq)
                    < (c.priority, coalesce(c.position, c.seq), c.seq))))
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

-- A turn that succeeds proves that its agent is not limited for its model.
create or replace function onsembl.forget_limit() returns trigger
    language plpgsql as
$$
begin
    update onsembl.agents set limit_strikes = 0, limited_since = null, limited_until = null, limited_model = null
        where id = new.agent_id and (limit_strikes > 0 or limited_until is not null)
          and onsembl.limit_is_of(limited_model, new.turn);
    return null;
end
$$;
