-- A turn whose coding CLI is not known to report all of its tokens: its counts are the least that it used.

alter table onsembl.turn_usage add partial boolean not null default false;

-- As before, with `partial`. Such a turn also counts when the CLI reports nothing of it.
create or replace function onsembl.add_turn_usage(command onsembl.commands) returns void
    language sql set search_path = '' as
$$
    insert into onsembl.turn_usage
            (command_id, model, ended_at, agent_id, agent_name, labels, operator_id, operator_name, conversation_id,
             input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, cost_source, prices, partial)
        select command.id, part.model, coalesce(command.ended_at, now()), command.agent_id, a.name, a.labels,
            command.requested_by, command.requested_by_name, command.conversation_id,
            part.input_tokens, part.output_tokens, part.cache_read_tokens, part.cache_write_tokens,
            coalesce(part.cost_usd, onsembl.estimated_cost(
                p, part.input_tokens, part.output_tokens, part.cache_read_tokens, part.cache_write_tokens)),
            case when part.cost_usd is not null then 'cli' when p.id is not null then 'prices' end,
            case when p.id is not null then onsembl.prices_on_row(p) end,
            coalesce(command.usage -> 'partial' = 'true', false)
        from onsembl.usage_parts(command.usage) as part
        join onsembl.agents as a on a.id = command.agent_id
        left join lateral onsembl.prices_of(
            part.model, (coalesce(command.ended_at, now()) at time zone 'utc')::date) as p on part.cost_usd is null
        where part.input_tokens + part.output_tokens + part.cache_read_tokens + part.cache_write_tokens > 0
            or part.cost_usd > 0 or command.usage -> 'partial' = 'true'
        on conflict (command_id, model) do nothing
$$;
