-- The event feed: what has happened to agents, commands, requests, reports and halts, in one order.
--
-- The transaction of a change writes its events into the outbox. Their positions are given after the commit, under the
-- lock of the one row of `event_feed`: so a reader that has seen a position has seen all that are lower, also where
-- transactions have committed in another order than they began.

create table onsembl.event_outbox (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    kind text not null,                         -- `agent.changed`: the agent's activity may be another one, or that of all
    agent_id uuid,                              -- no foreign keys: events outlive what they tell of
    command_id uuid,
    conversation_id uuid,
    subject_id uuid,                            -- the request, the report or the halt
    detail jsonb not null default '{}'
);

create table onsembl.events (
    position bigint primary key,
    at timestamptz not null,
    kind text not null,
    agent_id uuid,
    command_id uuid,
    conversation_id uuid,
    subject_id uuid,
    detail jsonb not null
);
create index on onsembl.events (agent_id, position) where agent_id is not null;
create index on onsembl.events (agent_id, position) where kind = 'agent.status';

create table onsembl.event_feed (
    one boolean primary key default true check (one),
    last bigint not null,                       -- the highest position that was given
    deleted bigint not null                     -- the highest position that retention has deleted
);
insert into onsembl.event_feed (last, deleted) values (0, 0);

alter table onsembl.event_outbox enable row level security;
alter table onsembl.events enable row level security;
alter table onsembl.event_feed enable row level security;
create policy api on onsembl.event_outbox to onsembl_api using (true) with check (true);
create policy api on onsembl.events to onsembl_api using (true) with check (true);
create policy api on onsembl.event_feed to onsembl_api using (true) with check (true);
grant select, insert, delete on onsembl.event_outbox, onsembl.events to onsembl_api;
grant select, update on onsembl.event_feed to onsembl_api;

create index on onsembl.attention (agent_id) where state = 'open';

create function onsembl.wake_event_feed() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    perform pg_notify('onsembl_events', '');
    return null;
end
$$;
create trigger wake_event_feed after insert on onsembl.event_outbox
    for each statement execute function onsembl.wake_event_feed();

create function onsembl.event_time(at timestamptz) returns text
    language sql stable set search_path = ''
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Requests that wait for a person.
create function onsembl.attention_events() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    insert into onsembl.event_outbox (kind, agent_id, command_id, conversation_id, subject_id, detail)
        values (
            case new.state when 'open' then 'attention.asked' when 'answered' then 'attention.answered'
                else 'attention.withdrawn' end,
            new.agent_id, new.command_id, new.conversation_id, new.id,
            jsonb_build_object('request_kind', new.kind, 'title', new.title)
                || case new.state
                    when 'open' then jsonb_build_object('digest', new.digest, 'guess', new.guess)
                    when 'answered' then jsonb_build_object(
                        'decision', new.decision ->> 'decision', 'answered_by_kind', new.answered_by_kind,
                        'answered_by_name', new.answered_by_name, 'scope', new.scope)
                    else jsonb_build_object('reason', new.reason) end),
        ('agent.changed', new.agent_id, null, null, null, '{}');
    return null;
end
$$;
create trigger attention_asked after insert on onsembl.attention
    for each row execute function onsembl.attention_events();
create trigger attention_changed after update of state, digest on onsembl.attention
    for each row when (old.state is distinct from new.state or old.digest is distinct from new.digest)
    execute function onsembl.attention_events();

-- Commands: their ends, and whether their agent works.
create function onsembl.command_events() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    if new.state in ('succeeded', 'failed', 'cancelled', 'timed_out', 'lost') then
        insert into onsembl.event_outbox (kind, agent_id, command_id, conversation_id, detail)
            values ('command.ended', new.agent_id, new.id, new.conversation_id, jsonb_build_object(
                'state', new.state, 'text', left(new.text, 200), 'exit_code', new.exit_code, 'signal', new.signal,
                'error', left(new.error, 1000), 'limit_passed', new.limit_passed));
    end if;
    if old.state in ('dispatched', 'running') or new.state in ('dispatched', 'running') then
        insert into onsembl.event_outbox (kind, agent_id) values ('agent.changed', new.agent_id);
    end if;
    return null;
end
$$;
create trigger command_events after update of state on onsembl.commands
    for each row when (old.state is distinct from new.state and new.state <> 'running')
    execute function onsembl.command_events();

-- Agents: usage limits of their vendors, and what else their activity follows from.
create function onsembl.agent_events() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    if new.limited_until is distinct from old.limited_until then
        insert into onsembl.event_outbox (kind, agent_id, detail)
            values (case when new.limited_until is null then 'limit.over' else 'limit.reached' end, new.id,
                case when new.limited_until is null then '{}' else jsonb_build_object(
                    'since', onsembl.event_time(new.limited_since),
                    'until', onsembl.event_time(new.limited_until)) end);
    end if;
    insert into onsembl.event_outbox (kind, agent_id) values ('agent.changed', new.id);
    return null;
end
$$;
create trigger agent_events after update of status, paused_at, problem, limited_until on onsembl.agents
    for each row when (old.status is distinct from new.status or old.paused_at is distinct from new.paused_at
        or old.problem is distinct from new.problem or old.limited_until is distinct from new.limited_until)
    execute function onsembl.agent_events();

create function onsembl.report_events() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    insert into onsembl.event_outbox (kind, agent_id, command_id, conversation_id, subject_id, detail)
        values ('report.written', new.agent_id, new.command_id, new.conversation_id, new.id, jsonb_build_object(
            'title', new.title, 'preset', new.preset, 'version', new.version, 'severities', new.severities,
            'problem', left(new.problem, 1000)));
    return null;
end
$$;
create trigger report_events after insert on onsembl.reports
    for each row execute function onsembl.report_events();

create function onsembl.halt_events() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    insert into onsembl.event_outbox (kind, subject_id, detail)
        values (case when new.lifted_at is null then 'halt.begun' else 'halt.lifted' end, new.id,
            jsonb_build_object('reason', new.reason, 'by_name',
                case when new.lifted_at is null then new.requested_by_name else new.lifted_by_name end)),
        ('agent.changed', null, '{}');
    return null;
end
$$;
create trigger halt_begun after insert on onsembl.halts
    for each row execute function onsembl.halt_events();
create trigger halt_lifted after update of lifted_at on onsembl.halts
    for each row when (old.lifted_at is null and new.lifted_at is not null)
    execute function onsembl.halt_events();
