-- The queue of jobs: Procrastinate's tables, in a schema of their own.

-- Only the server works with jobs.
do $$
declare
    target regclass;
begin
    for target in
        select format('procrastinate.%I', tablename)::regclass from pg_tables where schemaname = 'procrastinate'
    loop
        execute format('alter table %s enable row level security', target);
        execute format('create policy api on %s to onsembl_api using (true) with check (true)', target);
    end loop;
end
$$;

grant usage on schema procrastinate to onsembl_api;
grant select, insert, update, delete on all tables in schema procrastinate to onsembl_api;
grant usage on all sequences in schema procrastinate to onsembl_api;
grant execute on all functions in schema procrastinate to onsembl_api;

-- A worker looks for jobs when one is inserted, and otherwise every few seconds. A job whose lock was taken then is
-- not seen when the lock is released; this tells the workers.
create function procrastinate.onsembl_notify_lock_released() returns trigger
    language plpgsql as
$$
declare
    waiting record;
    payload text;
begin
    select id, queue_name into waiting
        from procrastinate.procrastinate_jobs
        where lock = new.lock and status = 'todo' and (scheduled_at is null or scheduled_at <= now())
        limit 1;
    if found then
        payload := json_build_object('type', 'job_inserted', 'job_id', waiting.id)::text;
        perform pg_notify('procrastinate_queue_v1#' || waiting.queue_name, payload);
        perform pg_notify('procrastinate_any_queue_v1', payload);
    end if;
    return null;
end
$$;
grant execute on function procrastinate.onsembl_notify_lock_released() to onsembl_api;

create trigger onsembl_lock_released
    after update of status on procrastinate.procrastinate_jobs
    for each row
    when (old.status = 'doing' and new.status <> 'doing' and new.lock is not null)
    execute function procrastinate.onsembl_notify_lock_released();

create index onsembl_jobs_waiting_for_lock on procrastinate.procrastinate_jobs (lock) where status = 'todo';
