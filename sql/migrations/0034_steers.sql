-- A text that is sent while a turn runs goes into that turn (steer). It is a queued command until the CLI has taken it;
-- if the turn ends first, it stays in the queue as the next command of the conversation.

alter table onsembl.agents
    add takes_steers boolean not null default false;

alter table onsembl.commands
    add steers uuid references onsembl.commands on delete set null,    -- the command into whose turn it was sent
    -- 'waiting' for the agent, 'given' to it, 'taken' into the turn, too 'late' for it, or 'unknown'
    add steer_state text check (steer_state in ('waiting', 'given', 'taken', 'late', 'unknown')),
    add steer_step integer check (steer_step > 0);                      -- of the turn, at which it was taken
create index on onsembl.commands (steers) where steers is not null;

grant select (takes_steers) on onsembl.agents to authenticated;
grant select (steers, steer_state, steer_step) on onsembl.commands to authenticated;

-- As before, without the texts that are meant for a turn that has not ended.
create or replace function onsembl.promote(agent uuid, task text) returns setof onsembl.commands
    language plpgsql as
$$
declare
    head uuid;
begin
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

-- As `request_turn`, for the turn that the agent runs now, ahead of the queue: its conversation and its settings. If no
-- turn runs, or not of the conversation that is wanted, it is an ordinary command that is 'late'. No row comes back when
-- the turn has `most` texts.
create function onsembl.request_steer(
    agent uuid, text text, priority integer, preset text, request_id text, limits jsonb, task text,
    by_kind text, by_id uuid, by_name text, address text, detail jsonb, conversation text, most integer
) returns setof onsembl.commands
    language plpgsql as
$$
#variable_conflict use_variable
declare
    turn_now onsembl.commands;
    made onsembl.commands;
    settings jsonb;
    place double precision;
begin
    perform from onsembl.agents where agents.id = agent and disabled_at is null for update;
    if not found then
        return;
    end if;
    select * into turn_now from onsembl.commands as c
        where c.agent_id = agent and c.state in ('dispatched', 'running') and c.cancel_requested_at is null
          and c.conversation_id is not null
          and (conversation in ('new', 'latest') or c.conversation_id::text = conversation);
    if not found then
        for made in
            select * from onsembl.request_turn(
                agent, text, priority, preset, request_id, limits, task, by_kind, by_id, by_name, address, detail,
                case when conversation = 'new' then 'latest' else conversation end, '{}')
        loop
            return query update onsembl.commands as c set steer_state = 'late' where c.id = made.id returning *;
        end loop;
        return;
    end if;
    if (select count(*) from onsembl.commands as c where c.steers = turn_now.id) >= most then
        return;
    end if;
    -- What the turn has, as far as the agent may go now.
    select coalesce(jsonb_object_agg(key, value), '{}') into settings from jsonb_each(turn_now.turn)
        where key in ('model', 'effort') or key = 'permission_mode' and
            onsembl.permission_rank(value #>> '{}') <=
                onsembl.permission_rank((select permission_mode from onsembl.agents where agents.id = agent));
    select coalesce(
            max(coalesce(c.position, c.seq)) filter (where c.steers = turn_now.id),
            min(coalesce(c.position, c.seq)) - 1)
        into place from onsembl.commands as c
        where c.agent_id = agent and c.state = 'queued' and c.priority = priority;
    insert into onsembl.commands
            (agent_id, text, priority, requested_by, requested_by_name, preset, request_id, limits,
             conversation_id, turn, position, steers, steer_state)
        select agent, text, priority, by_id, by_name, preset, request_id, limits, t.conversation_id, t.turn, place,
            turn_now.id, 'waiting'
        from onsembl.next_turn(agent, turn_now.conversation_id::text, text, settings) as t
        returning * into made;
    if not found then
        return;
    end if;
    insert into onsembl.audit
            (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
        values (by_kind, by_id, by_name, address, 'command.requested', 'command', made.id::text, 'ok',
            detail || jsonb_build_object('conversation_id', made.conversation_id, 'steers', made.steers));
    return next made;
end
$$;
grant execute on function onsembl.request_steer(
    uuid, text, integer, text, text, jsonb, text, text, uuid, text, text, jsonb, text, integer) to onsembl_api;

-- The turn of `command` has taken a text; nothing changes when that was recorded before.
create function onsembl.take_steer(
    agent uuid, command uuid, steer uuid, step integer, channel text, by_name text, address text
) returns void
    language plpgsql as
$$
#variable_conflict use_variable
begin
    update onsembl.commands as c
        set state = 'succeeded', ended_at = now(), steer_state = 'taken', steer_step = step
        where c.id = steer and c.steers = command and c.agent_id = agent and c.state = 'queued'
          and c.steer_state in ('waiting', 'given');
    if not found then
        return;
    end if;
    insert into onsembl.audit
            (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
        values ('agent', agent, by_name, address, 'command.steered', 'command', steer::text, 'ok',
            jsonb_build_object('into', command, 'step', step));
    perform pg_notify(channel, steer::text);
end
$$;
grant execute on function onsembl.take_steer(uuid, uuid, uuid, integer, text, text, text) to onsembl_api;

-- The fates of the texts of a turn, as its agent reports them; the turn ends next. Those that it does not name never
-- reached it.
create function onsembl.settle_steers(
    agent uuid, command uuid, fates jsonb, channel text, by_name text, address text
) returns void
    language plpgsql as
$$
#variable_conflict use_variable
begin
    perform onsembl.take_steer(
            agent, command, (fate ->> 'steer_id')::uuid, (fate ->> 'step')::integer, channel, by_name, address)
        from jsonb_array_elements(fates) as fate where fate ->> 'state' = 'taken';
    update onsembl.commands as c
        set steer_state = 'waiting'
        where c.steers = command and c.agent_id = agent and c.state = 'queued' and c.steer_state = 'given'
          and not exists (
              select from jsonb_array_elements(fates) as fate
              where (fate ->> 'steer_id')::uuid = c.id and fate ->> 'state' = 'unknown');
end
$$;
grant execute on function onsembl.settle_steers(uuid, uuid, jsonb, text, text, text) to onsembl_api;

-- When a turn ends, however that is recorded: a text that it did not take is the next command, unless the turn was
-- cancelled. A text of which nobody can tell whether the turn took it is lost: it never runs twice.
create function onsembl.release_steers() returns trigger
    language plpgsql as
$$
begin
    update onsembl.commands as c
        set steer_state = case c.steer_state when 'given' then 'unknown' else 'late' end,
            state = case when c.steer_state = 'given' then 'lost'
                when new.state = 'cancelled' then 'cancelled' else c.state end,
            ended_at = case when c.steer_state = 'given' or new.state = 'cancelled' then now() end,
            error = case when c.steer_state = 'given' then 'It is not known whether the turn took this text.'
                when new.state = 'cancelled' then 'The turn was cancelled before it took this text.' end,
            cancel_requested_at = case when c.steer_state = 'waiting' and new.state = 'cancelled'
                then coalesce(new.cancel_requested_at, now()) end,
            cancel_requested_by = case when c.steer_state = 'waiting' and new.state = 'cancelled'
                then new.cancel_requested_by end,
            cancel_reason = case when c.steer_state = 'waiting' and new.state = 'cancelled' then new.cancel_reason end
        where c.steers = new.id and c.state = 'queued' and c.steer_state in ('waiting', 'given');
    return null;
end
$$;
create trigger release_steers after update of state on onsembl.commands
    for each row
    when (old.state in ('queued', 'dispatched', 'running') and old.dispatched_at is not null
        and new.state in ('succeeded', 'failed', 'cancelled', 'timed_out', 'lost'))
    execute function onsembl.release_steers();

-- As `end_turn`, with the fates of the texts that were sent into the turn; null when the agent does not tell them.
create function onsembl.end_steered_turn(
    agent uuid, command uuid, outcome text, started timestamptz, ended timestamptz, exit_code integer, signal integer,
    error text, output_start bigint, output_end bigint, usage jsonb, passed text, channel text, task text,
    by_name text, address text, report jsonb, fates jsonb
) returns setof onsembl.commands
    language plpgsql as
$$
#variable_conflict use_variable
begin
    perform from onsembl.agents where agents.id = agent for update;
    if fates is not null and exists (select from onsembl.commands as c where c.steers = command and c.state = 'queued')
    then
        perform onsembl.settle_steers(agent, command, fates, channel, by_name, address);
    end if;
    return query select * from onsembl.end_turn(
        agent, command, outcome, started, ended, exit_code, signal, error, output_start, output_end, usage, passed,
        channel, task, by_name, address, report);
end
$$;
grant execute on function onsembl.end_steered_turn(
    uuid, uuid, text, timestamptz, timestamptz, integer, integer, text, bigint, bigint, jsonb, text, text, text, text,
    text, jsonb, jsonb) to onsembl_api;
