-- How far an agent may go without asking a person. No command may go further than its agent.

alter table onsembl.agents
    add permission_mode text not null default 'ask'
        check (permission_mode in ('plan', 'ask', 'accept_edits', 'auto', 'full'));
alter table onsembl.schedules
    add permission_mode text check (permission_mode in ('plan', 'ask', 'accept_edits', 'auto', 'full'));

create function onsembl.permission_rank(mode text) returns integer
    language sql immutable set search_path = '' as
$$
    select array_position(array['plan', 'ask', 'accept_edits', 'auto', 'full'], mode)
$$;
grant execute on function onsembl.permission_rank(text) to onsembl_api;

-- As before, with the permission mode of the turn: that of the settings, else the agent's. No row comes back when the
-- settings go further than the agent may.
create or replace function onsembl.next_turn(agent uuid, wanted text, command_text text, settings jsonb)
    returns table (conversation_id uuid, turn jsonb)
    language plpgsql as
$$
#variable_conflict use_variable
declare
    owner onsembl.agents;
    made onsembl.conversations;
    source text;
    is_known boolean;
begin
    select * into owner from onsembl.agents where agents.id = agent;
    if owner.kind = 'shell' then
        if wanted in ('new', 'latest') and settings = '{}' then
            return query select null::uuid, null::jsonb;
        end if;
        return;
    end if;
    if onsembl.permission_rank(settings ->> 'permission_mode') > onsembl.permission_rank(owner.permission_mode) then
        return;
    end if;
    if wanted = 'latest' then
        select * into made from onsembl.conversations as c
            where c.agent_id = agent and c.state = 'open' order by c.active_at desc, c.seq desc limit 1;
    elsif wanted <> 'new' then
        select * into made from onsembl.conversations as c
            where c.agent_id = agent and c.state = 'open' and c.id = wanted::uuid;
        if not found then
            return;
        end if;
    end if;
    if made.id is null then
        insert into onsembl.conversations (agent_id, id, cli_id, title)
            select agent, fresh, fresh::text, left(split_part(ltrim(command_text, E' \t\r\n'), E'\n', 1), 80)
            from gen_random_uuid() as fresh
            returning * into made;
    else
        update onsembl.conversations as c set active_at = now() where c.id = made.id;
    end if;
    select c.cli_id into source from onsembl.conversations as c where c.id = made.forked_from;
    is_known := made.imported or exists (
        select from onsembl.commands as c where c.conversation_id = made.id and (c.usage ->> 'turns')::bigint > 0);
    return query select made.id,
        jsonb_build_object('permission_mode', owner.permission_mode) || settings
        || jsonb_build_object('conversation', made.cli_id, 'known', is_known)
        || case when source is null or is_known then '{}' else jsonb_build_object('fork_of', source) end;
end
$$;
