-- Conversations: the threads of coding CLIs. The commands of a conversation are its turns.

create table onsembl.conversations (
    id uuid primary key default gen_random_uuid(),
    seq bigint generated always as identity unique,
    agent_id uuid not null references onsembl.agents on delete cascade,
    cli_id text not null check (length(cli_id) between 1 and 200),  -- the CLI's own id, by which it resumes
    title text not null check (length(title) <= 200),
    state text not null default 'open' check (state in ('open', 'forgotten')),
    imported boolean not null default false,    -- begun outside; so the CLI knows it before its first turn here
    forked_from uuid references onsembl.conversations on delete set null,
    folder text,
    branch text,
    model text,
    permission_mode text,
    context_tokens bigint,
    context_window bigint,
    created_at timestamptz not null default now(),
    active_at timestamptz not null default now(),
    unique (agent_id, cli_id)
);
create index on onsembl.conversations (agent_id, active_at desc);
create index on onsembl.conversations (forked_from) where forked_from is not null;

alter table onsembl.conversations enable row level security;
create policy api on onsembl.conversations to onsembl_api using (true) with check (true);
grant select, insert, update on onsembl.conversations to onsembl_api;
create policy operators_read on onsembl.conversations for select to authenticated using (onsembl.is_operator());
grant select on onsembl.conversations to authenticated;

alter table onsembl.commands
    add conversation_id uuid references onsembl.conversations on delete set null,
    add turn jsonb,                                         -- how the CLI is started for this command
    add denied integer not null default 0 check (denied >= 0),  -- how many tool calls were not allowed
    add denials jsonb not null default '[]';                    -- the first of them
create index on onsembl.commands (conversation_id, seq) where conversation_id is not null;

alter table onsembl.schedules
    add conversation text not null default 'new' check (length(conversation) <= 36),
    add model text,
    add effort text;

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table onsembl.conversations;
    end if;
end
$$;

-- The conversation of an agent's next command, and how the CLI is started for it. `wanted` is 'new', 'latest' or a
-- conversation's id. A command line has neither. No row comes back for a conversation that the agent does not have, or
-- that its CLI has forgotten, and for settings of a command line. The caller has locked the agent's row.
create function onsembl.next_turn(agent uuid, wanted text, command_text text, settings jsonb)
    returns table (conversation_id uuid, turn jsonb)
    language plpgsql as
$$
#variable_conflict use_variable
declare
    made onsembl.conversations;
    source text;
    is_known boolean;
begin
    if (select kind from onsembl.agents where agents.id = agent) = 'shell' then
        if wanted in ('new', 'latest') and settings = '{}' then
            return query select null::uuid, null::jsonb;
        end if;
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
    return query select made.id, settings || jsonb_build_object('conversation', made.cli_id, 'known', is_known)
        || case when source is null or is_known then '{}' else jsonb_build_object('fork_of', source) end;
end
$$;
grant execute on function onsembl.next_turn(uuid, text, text, jsonb) to onsembl_api;

-- As `request_command`, for a command that is a turn of a conversation. No row comes back when `next_turn` has none,
-- either.
create function onsembl.request_turn(
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
        return next made;
    end if;
end
$$;
grant execute on function onsembl.request_turn(
    uuid, text, integer, text, text, jsonb, text, text, uuid, text, text, jsonb, text, jsonb) to onsembl_api;

-- As `end_command`; `report` is what the CLI has said of the turn.
create function onsembl.end_turn(
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
        set denied = coalesce((report ->> 'denied')::integer, 0), denials = coalesce(report -> 'denials', '[]')
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
grant execute on function onsembl.end_turn(
    uuid, uuid, text, timestamptz, timestamptz, integer, integer, text, bigint, bigint, jsonb, text, text, text, text,
    text, jsonb) to onsembl_api;
