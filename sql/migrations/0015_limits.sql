-- Limits on commands: how long they may run and be silent, and what they may use. Each is an object that has
-- `wall_seconds`, `idle_seconds`, `tokens` and `cost_usd`, or some of these.

alter table onsembl.agents add limits jsonb not null default '{}';      -- no command of it may have wider ones
alter table onsembl.presets add limits jsonb not null default '{}';
alter table onsembl.schedules add limits jsonb not null default '{}';
alter table onsembl.command_groups add limits jsonb not null default '{}';
alter table onsembl.commands
    add limits jsonb not null default '{}',     -- when it waits as it was asked for, from then on with the agent's
    add limit_passed text check (limit_passed in ('wall_seconds', 'idle_seconds', 'tokens', 'cost_usd')),
    add over_at timestamptz;                    -- since when what it has used is more than a limit

create index commands_limited on onsembl.commands (id) where state = 'running' and limits <> '{}';

-- Of two sets of limits the narrower one of each kind.
create function onsembl.narrower(one jsonb, other jsonb) returns jsonb
    language sql immutable set search_path = '' as
$$
    select coalesce(jsonb_object_agg(name, least(one -> name, other -> name)), '{}')
    from (select jsonb_object_keys(one) union select jsonb_object_keys(other)) as names (name)
$$;
grant execute on function onsembl.narrower(jsonb, jsonb) to onsembl_api;
