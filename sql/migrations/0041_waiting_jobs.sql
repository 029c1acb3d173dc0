-- The end of a command replaces the job of that command by one of the next command. Until now two waiting jobs of an
-- agent were a violation of a unique index: if a worker or a sweep returned the old job to the queue at the same moment,
-- the command's end could not be written. Now both may wait. The old job finds that its command is over, and ends.
create or replace function onsembl.defer_command(agent uuid, command uuid, task text) returns bigint
    language plpgsql as
$$
declare
    line text := 'agent:' || agent;
    job procrastinate.procrastinate_job_to_defer_v1 :=
        row ('default', task, 0, line, null, jsonb_build_object('command_id', command), null);
begin
    update procrastinate.procrastinate_jobs set status = 'cancelled' where lock = line and status = 'todo';
    return (procrastinate.procrastinate_defer_jobs_v1(array [job]))[1];
end
$$;

create index onsembl_jobs_waiting on procrastinate.procrastinate_jobs (lock) where status = 'todo';
