-- Requests of agents that wait for a person, each answered once, and the rules by which operators answer later ones.

create table onsembl.attention (
    id uuid primary key,                    -- the agent has made it
    seq bigint generated always as identity unique,
    agent_id uuid not null references onsembl.agents on delete cascade,
    command_id uuid not null references onsembl.commands on delete cascade,
    conversation_id uuid references onsembl.conversations on delete set null,
    kind text not null check (kind in ('permission', 'question', 'plan', 'elicitation', 'idle')),
    title text not null check (length(title) <= 256),
    body jsonb not null,                    -- what is asked, in the form of its kind
    digest text not null check (digest ~ '^[0-9a-f]{64}$'),  -- names the body; an answer names what it answers by it
    step integer,                           -- the step of the tool call
    guess boolean not null default false,   -- only the program's silence says that it waits
    state text not null default 'open' check (state in ('open', 'answered', 'withdrawn')),
    asked_at timestamptz not null default now(),
    closed_at timestamptz,
    decision jsonb,                         -- without secret answers
    secret_decision jsonb,                  -- the whole decision, if it has a secret; only until the agent has it
    answered_by_kind text check (answered_by_kind in ('operator', 'rule')),
    answered_by uuid,                       -- the operator, or the rule
    answered_by_name text,
    scope text check (scope in ('once', 'conversation', 'always')),
    delivery text check (delivery in ('waiting', 'given', 'late')),  -- of the answer, to the agent's CLI
    reason text                             -- why it was withdrawn
);
create index on onsembl.attention (seq) where state = 'open';
create index on onsembl.attention (agent_id, seq);
create index on onsembl.attention (command_id);
create index on onsembl.attention (conversation_id) where conversation_id is not null;
create index on onsembl.attention (agent_id) where delivery = 'waiting';

create table onsembl.attention_rules (
    id uuid primary key default gen_random_uuid(),
    seq bigint generated always as identity unique,
    agent_id uuid not null references onsembl.agents on delete cascade,
    conversation_id uuid references onsembl.conversations on delete cascade,  -- null: in all of the agent's
    rule text not null check (length(rule) <= 256),
    attention_id uuid not null references onsembl.attention on delete cascade,  -- the request that it was made for
    created_at timestamptz not null default now(),
    created_by_name text not null
);
create unique index on onsembl.attention_rules (agent_id, conversation_id, rule) nulls not distinct;
create index on onsembl.attention_rules (conversation_id) where conversation_id is not null;
create index on onsembl.attention_rules (attention_id);

alter table onsembl.attention enable row level security;
create policy api on onsembl.attention to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.attention to onsembl_api;
create policy operators_read on onsembl.attention for select to authenticated using ((select onsembl.is_operator()));
grant select (id, seq, agent_id, command_id, conversation_id, kind, title, digest, step, guess, state, asked_at, closed_at,
    decision, answered_by_kind, answered_by, answered_by_name, scope, delivery, reason)
    on onsembl.attention to authenticated;
alter table onsembl.attention_rules enable row level security;
create policy api on onsembl.attention_rules to onsembl_api using (true) with check (true);
grant select, insert, delete on onsembl.attention_rules to onsembl_api;

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table onsembl.attention;
    end if;
end
$$;

-- A command that has ended waits for nobody, however its end is recorded.
create function onsembl.withdraw_requests() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    update onsembl.attention
        set state = 'withdrawn', closed_at = now(), reason = 'The command has ended.'
        where command_id = new.id and state = 'open';
    update onsembl.attention
        set delivery = 'late', secret_decision = null
        where command_id = new.id and delivery = 'waiting';
    return null;
end
$$;
create trigger withdraw_requests after update of state on onsembl.commands
    for each row
    when (old.state is distinct from new.state and new.state in ('succeeded', 'failed', 'cancelled', 'timed_out', 'lost'))
    execute function onsembl.withdraw_requests();
