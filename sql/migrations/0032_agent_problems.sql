-- An agent that cannot work, as on a full disk, says so. Its queue waits until the problem is over.
alter table onsembl.agents
    add problem text check (octet_length(problem) between 1 and 256),
    add problem_since timestamptz,
    add check ((problem is null) = (problem_since is null));

-- As before, for an agent without a problem.
create or replace function onsembl.promote(agent uuid, task text) returns setof onsembl.commands
    language plpgsql as
$$
declare
    head uuid;
begin
    select id into head from onsembl.commands
        where agent_id = agent and state = 'queued'
          and exists (
              select from onsembl.agents
              where id = agent and status = 'online' and disabled_at is null and paused_at is null and problem is null)
          and not exists (select from onsembl.halts where lifted_at is null)
          and not exists (
              select from onsembl.commands as occupant
              where occupant.agent_id = agent and occupant.state in ('dispatched', 'running'))
        order by priority, coalesce(position, seq), seq
        limit 1
        for update;
    if not found then
        return;
    end if;
    return query
        update onsembl.commands
            set state = 'dispatched', dispatched_at = now(), job_id = onsembl.defer_command(agent, head, task),
                limits = onsembl.narrower(limits, (select agents.limits from onsembl.agents where agents.id = agent))
            where id = head
            returning *;
end
$$;
