-- The emergency stop: while a halt is in force nothing is dispatched, and each agent's confirmation is a row.

create table onsembl.halts (
    id uuid primary key default gen_random_uuid(),
    number bigint generated always as identity unique, -- which of two is the newer
    at timestamptz not null default now(),
    requested_by uuid,
    requested_by_name text not null default '',
    reason text,
    seconds double precision not null check (seconds > 0), -- in which agents climb their ladders
    lifted_at timestamptz,
    lifted_by uuid,
    lifted_by_name text
);
create unique index halts_one_in_force on onsembl.halts ((true)) where lifted_at is null;

create table onsembl.halt_agents (
    id uuid primary key default gen_random_uuid(),
    halt_id uuid not null references onsembl.halts (id) on delete cascade,
    agent_id uuid not null,                     -- no foreign key: a halt waits for nobody who holds the agent's row
    state text not null check (state in ('not_reached', 'stopping', 'stopped', 'dying')),
    step text,                                  -- the last rung climbed
    processes_left integer not null default 0,
    pids integer[] not null default '{}',       -- those that would not die
    at timestamptz not null default now(),
    unique (halt_id, agent_id)
);

alter table onsembl.halts enable row level security;
alter table onsembl.halt_agents enable row level security;
create policy api on onsembl.halts to onsembl_api using (true) with check (true);
create policy api on onsembl.halt_agents to onsembl_api using (true) with check (true);
create policy operators_read on onsembl.halts for select to authenticated using ((select onsembl.is_operator()));
create policy operators_read on onsembl.halt_agents for select to authenticated using ((select onsembl.is_operator()));
grant select, insert, update on onsembl.halts, onsembl.halt_agents to onsembl_api;
grant select on onsembl.halts, onsembl.halt_agents to authenticated;

-- An agent that goes away before it has stopped is not reached any more, whoever writes its presence.
create function onsembl.halted_agent_left() returns trigger
    language plpgsql as
$$
begin
    update onsembl.halt_agents set state = 'not_reached', at = now()
        where agent_id = new.id and state in ('stopping', 'dying')
          and halt_id in (select id from onsembl.halts where lifted_at is null);
    return null;
end
$$;
grant execute on function onsembl.halted_agent_left() to onsembl_api;

create trigger halted_agent_left
    after update of status on onsembl.agents
    for each row
    when (old.status = 'online' and new.status = 'offline')
    execute function onsembl.halted_agent_left();

alter publication supabase_realtime add table onsembl.halts, onsembl.halt_agents;
