-- The head of an agent's line becomes a job in one statement: the row, the job and its number.

-- The job that runs a command, under a lock of its agent's: one runs at a time and one waits. A job may wait whose
-- command is over, when its worker was stopped or died and meanwhile the agent told of the end: it makes room.
create function onsembl.defer_command(agent uuid, command uuid, task text) returns bigint
    language plpgsql as
$$
declare
    line text := 'agent:' || agent;
    job procrastinate.procrastinate_job_to_defer_v1 :=
        row ('default', task, 0, line, line, jsonb_build_object('command_id', command), null);
begin
    update procrastinate.procrastinate_jobs set status = 'cancelled'
        where queueing_lock = line and lock = line and status = 'todo';
    return (procrastinate.procrastinate_defer_jobs_v1(array [job]))[1];
end
$$;
grant execute on function onsembl.defer_command(uuid, uuid, text) to onsembl_api;

-- Gives the agent its next command, if it is online, free and not paused, and the fleet is not halted. The caller holds
-- the agent's row, so nobody else moves the line meanwhile.
create function onsembl.promote(agent uuid, task text) returns setof onsembl.commands
    language plpgsql as
$$
declare
    head uuid;
begin
    select id into head from onsembl.commands
        where agent_id = agent and state = 'queued'
          and exists (
              select from onsembl.agents
              where id = agent and status = 'online' and disabled_at is null and paused_at is null)
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
grant execute on function onsembl.promote(uuid, text) to onsembl_api;
