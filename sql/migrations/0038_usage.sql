-- Usage: the tokens and the cost of each turn, by model, and the prices by which a cost is estimated.

-- Prices in USD per million tokens of the models that fit a pattern (`*` is any text), from a day on (UTC).
create table onsembl.prices (
    id bigint generated always as identity primary key,
    pattern text not null check (pattern ~ '^[!-~]([ -~]{0,126}[!-~])?$'),
    valid_from date not null,
    input_usd double precision not null check (input_usd between 0 and 1000000),
    output_usd double precision not null check (output_usd between 0 and 1000000),
    cache_read_usd double precision not null check (cache_read_usd between 0 and 1000000),
    cache_write_usd double precision not null check (cache_write_usd between 0 and 1000000),
    updated_at timestamptz not null default now(),
    updated_by uuid,
    updated_by_name text not null default ''
);
create unique index prices_by_pattern on onsembl.prices (lower(pattern), valid_from);

alter table onsembl.prices enable row level security;
create policy api on onsembl.prices to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.prices to onsembl_api;

-- One row for each turn and model. It has the names and labels of then, so that it outlives what it names.
create table onsembl.turn_usage (
    command_id uuid not null,
    model text not null check (length(model) <= 256),
    ended_at timestamptz not null,
    agent_id uuid not null,
    agent_name text not null,
    labels text[] not null default '{}',
    operator_id uuid,
    operator_name text not null default '',
    conversation_id uuid,
    input_tokens bigint not null check (input_tokens >= 0),     -- neither read from a cache nor written to one
    output_tokens bigint not null check (output_tokens >= 0),
    cache_read_tokens bigint not null check (cache_read_tokens >= 0),
    cache_write_tokens bigint not null check (cache_write_tokens >= 0),
    cost_usd double precision check (cost_usd >= 0),
    cost_source text check (cost_source in ('cli', 'prices')),
    prices jsonb,                                               -- those by which the cost is estimated
    primary key (command_id, model),
    check ((cost_usd is null) = (cost_source is null))
);
create index on onsembl.turn_usage (ended_at);

alter table onsembl.turn_usage enable row level security;
create policy api on onsembl.turn_usage to onsembl_api using (true) with check (true);
grant select, insert, update on onsembl.turn_usage to onsembl_api;

-- A number of tokens within its bounds, whatever stands there.
create function onsembl.token_count(value jsonb) returns bigint
    language sql immutable set search_path = '' as
$$
    select case when jsonb_typeof(value) = 'number'
        then trunc(least(greatest(value::numeric, 0), 9007199254740992))::bigint else 0 end
$$;
grant execute on function onsembl.token_count(jsonb) to onsembl_api;

-- The parts of a usage by model; an older agent reports no parts, so all of it counts to its model.
create function onsembl.usage_parts(usage jsonb) returns table (
    model text, input_tokens bigint, output_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint,
    cost_usd double precision
)
    language sql immutable set search_path = '' as
$$
    select left(coalesce(part ->> 'model', ''), 128) as model,
        least(sum(onsembl.token_count(part -> 'input_tokens')), 9007199254740992)::bigint,
        least(sum(onsembl.token_count(part -> 'output_tokens')), 9007199254740992)::bigint,
        least(sum(onsembl.token_count(part -> 'cache_read_tokens')), 9007199254740992)::bigint,
        least(sum(onsembl.token_count(part -> 'cache_write_tokens')), 9007199254740992)::bigint,
        sum(case when jsonb_typeof(part -> 'cost_usd') = 'number'
            then least(greatest((part -> 'cost_usd')::numeric, 0), 9007199254740992) end)::double precision
    from jsonb_array_elements(case
            when jsonb_typeof(usage -> 'models') = 'array' and usage -> 'models' <> '[]' then usage -> 'models'
            else jsonb_build_array(usage) end) as part
    group by 1
$$;
grant execute on function onsembl.usage_parts(jsonb) to onsembl_api;

-- The prices of a model on a day: of the pattern with the most characters that fits, the newest that are valid.
create function onsembl.prices_of(model text, day date) returns setof onsembl.prices
    language sql stable set search_path = '' as
$$
    select * from onsembl.prices as p
    where p.valid_from <= day and lower(model) like
        replace(replace(replace(replace(lower(p.pattern), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
    order by length(replace(p.pattern, '*', '')) desc, lower(p.pattern), p.valid_from desc
    limit 1
$$;
grant execute on function onsembl.prices_of(text, date) to onsembl_api;

create function onsembl.estimated_cost(
    prices onsembl.prices, input_tokens bigint, output_tokens bigint, cache_read_tokens bigint,
    cache_write_tokens bigint
) returns double precision
    language sql immutable set search_path = '' as
$$
    select (input_tokens * prices.input_usd + output_tokens * prices.output_usd
        + cache_read_tokens * prices.cache_read_usd + cache_write_tokens * prices.cache_write_usd) / 1000000
$$;
grant execute on function onsembl.estimated_cost(onsembl.prices, bigint, bigint, bigint, bigint) to onsembl_api;

create function onsembl.prices_on_row(prices onsembl.prices) returns jsonb
    language sql immutable set search_path = '' as
$$
    select to_jsonb(prices) - array['id', 'updated_at', 'updated_by', 'updated_by_name']
$$;
grant execute on function onsembl.prices_on_row(onsembl.prices) to onsembl_api;

-- The cost of a usage: as the CLI reports it, else by today's prices; null where neither is known.
create function onsembl.usage_cost(usage jsonb) returns double precision
    language sql stable set search_path = '' as
$$
    select sum(coalesce(part.cost_usd, onsembl.estimated_cost(
        p, part.input_tokens, part.output_tokens, part.cache_read_tokens, part.cache_write_tokens)))
    from onsembl.usage_parts(usage) as part
    left join lateral onsembl.prices_of(part.model, (now() at time zone 'utc')::date) as p on part.cost_usd is null
$$;
grant execute on function onsembl.usage_cost(jsonb) to onsembl_api;

create function onsembl.add_turn_usage(command onsembl.commands) returns void
    language sql set search_path = '' as
$$
    insert into onsembl.turn_usage
            (command_id, model, ended_at, agent_id, agent_name, labels, operator_id, operator_name, conversation_id,
             input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, cost_source, prices)
        select command.id, part.model, coalesce(command.ended_at, now()), command.agent_id, a.name, a.labels,
            command.requested_by, command.requested_by_name, command.conversation_id,
            part.input_tokens, part.output_tokens, part.cache_read_tokens, part.cache_write_tokens,
            coalesce(part.cost_usd, onsembl.estimated_cost(
                p, part.input_tokens, part.output_tokens, part.cache_read_tokens, part.cache_write_tokens)),
            case when part.cost_usd is not null then 'cli' when p.id is not null then 'prices' end,
            case when p.id is not null then onsembl.prices_on_row(p) end
        from onsembl.usage_parts(command.usage) as part
        join onsembl.agents as a on a.id = command.agent_id
        left join lateral onsembl.prices_of(
            part.model, (coalesce(command.ended_at, now()) at time zone 'utc')::date) as p on part.cost_usd is null
        where part.input_tokens + part.output_tokens + part.cache_read_tokens + part.cache_write_tokens > 0
            or part.cost_usd > 0
        on conflict (command_id, model) do nothing
$$;
grant execute on function onsembl.add_turn_usage(onsembl.commands) to onsembl_api;

-- However the end of a turn is recorded. A usage that cannot be stored must not keep the turn from ending.
create function onsembl.record_turn_usage() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    perform onsembl.add_turn_usage(new);
    return null;
exception when others then
    raise warning 'The usage of the command % cannot be stored: %', new.id, sqlerrm;
    return null;
end
$$;
grant execute on function onsembl.record_turn_usage() to onsembl_api;
create trigger record_turn_usage after update of state on onsembl.commands
    for each row
    when (new.usage is not null and old.state in ('queued', 'dispatched', 'running')
        and new.state in ('succeeded', 'failed', 'cancelled', 'timed_out', 'lost'))
    execute function onsembl.record_turn_usage();

-- The usage of the turns before.
do $$
declare
    past onsembl.commands;
begin
    for past in
        select * from onsembl.commands
            where usage is not null and state in ('succeeded', 'failed', 'cancelled', 'timed_out', 'lost')
    loop
        begin
            perform onsembl.add_turn_usage(past);
        exception when others then
            raise warning 'The usage of the command % cannot be stored: %', past.id, sqlerrm;
        end;
    end loop;
end
$$;
