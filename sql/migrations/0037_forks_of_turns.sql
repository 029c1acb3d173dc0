-- A fork may end after an earlier turn of the original, and a conversation that its CLI has forgotten begins anew with
-- its last answer.

alter table onsembl.commands
    add last_message text check (length(last_message) between 1 and 200);     -- the CLI's id of the turn's last message
alter table onsembl.conversations
    add fork_at text check (length(fork_at) between 1 and 200),     -- the copy ends with this message of the original
    add preface text check (length(preface) <= 20000);              -- goes before the first prompt

-- As before, with the place at which a fork ends, and the preface of the first prompt.
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
        || case when source is null or is_known or made.preface is not null then '{}'
            else jsonb_strip_nulls(jsonb_build_object('fork_of', source, 'fork_at', made.fork_at)) end
        || case when made.preface is null or is_known then '{}' else jsonb_build_object('preface', made.preface) end;
end
$$;

-- As before, with the CLI's id of the turn's last message.
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
                state = case when (report ->> 'forgotten')::boolean then 'forgotten' else c.state end,
                active_at = now()
            where c.id = (select conversation_id from onsembl.commands where commands.id = command);
    end if;
    return query select * from onsembl.end_command(
        agent, command, outcome, started, ended, exit_code, signal, error, output_start, output_end, usage, passed,
        channel, task, by_name, address);
end
$$;
