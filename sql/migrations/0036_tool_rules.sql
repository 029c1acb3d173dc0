-- Rules that allow and deny a coding agent's tool calls, of an agent, a preset and a schedule; those of a command are in
-- its turn.

alter table onsembl.agents
    add rules jsonb not null default '{}' check (jsonb_typeof(rules) = 'object'),
    add takes_rules boolean not null default false;
alter table onsembl.presets add rules jsonb not null default '{}' check (jsonb_typeof(rules) = 'object');
alter table onsembl.schedules add rules jsonb not null default '{}' check (jsonb_typeof(rules) = 'object');

grant select (rules, takes_rules) on onsembl.agents to authenticated;
grant select (rules) on onsembl.schedules to authenticated;

-- As before; a text that misses its turn keeps the rules of that turn.
create or replace function onsembl.request_steer(
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
        where key in ('model', 'effort', 'rules') or key = 'permission_mode' and
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
