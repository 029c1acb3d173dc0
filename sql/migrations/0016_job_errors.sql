-- Why jobs failed: the queue itself keeps only that they did.

create table onsembl.job_errors (
    job_id bigint primary key references procrastinate.procrastinate_jobs (id) on delete cascade,
    at timestamptz not null default now(),
    error text not null
);

alter table onsembl.job_errors enable row level security;
create policy api on onsembl.job_errors to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.job_errors to onsembl_api;

-- Among a day's jobs those few are looked for.
create index onsembl_jobs_failed on procrastinate.procrastinate_jobs (id) where status = 'failed';
