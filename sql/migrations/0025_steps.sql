-- Steps: what happened in the turns of coding CLIs, one by one. Dropped by days, together with the archive.

create sequence onsembl.step_changes;
grant usage on sequence onsembl.step_changes to onsembl_api;

create table onsembl.steps (
    at timestamptz not null,                -- when the command was sent: all its steps are in one partition
    command_id uuid not null,
    number integer not null check (number > 0),
    changed bigint not null,                -- grows with each change of a step; from `step_changes`
    revision integer not null,
    parent integer,
    kind text not null,
    name text not null,
    tool_kind text,
    title text not null,
    status text not null,
    text text not null,
    result text not null,
    text_omitted bigint not null,
    result_omitted bigint not null,
    denied boolean not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    output_start bigint not null,
    output_end bigint not null,
    tokens bigint,
    cost_usd double precision,
    primary key (at, command_id, number)
) partition by range (at);
create index on onsembl.steps (command_id, changed);

alter table onsembl.steps enable row level security;
create policy api on onsembl.steps to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.steps to onsembl_api;

-- Takes what comes on a day whose partition was not made.
create table onsembl.steps_default partition of onsembl.steps default;
alter table onsembl.steps_default enable row level security;
create policy api on onsembl.steps_default to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.steps_default to onsembl_api;

-- Make the partitions from today to `days` ahead, and drop those of days that the archive has dropped. Definer's rights:
-- the server may neither make nor drop a table.
create function onsembl.keep_step_partitions(days integer) returns void
    language plpgsql security definer set search_path = '' set lock_timeout = '2s' as
$$
declare
    first date := (now() at time zone 'UTC')::date;
    oldest date;
    day date;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('onsembl:step_partitions', 0));
    for day in
        select distinct (at at time zone 'UTC')::date from onsembl.steps_default
        union select first + ahead from generate_series(0, days) as ahead
        order by 1
    loop
        name := 'steps_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass('onsembl.' || name) is not null;
        execute format('create table onsembl.%I (like onsembl.steps including all)', name);
        execute format('alter table onsembl.%I enable row level security', name);
        execute format('create policy api on onsembl.%I to onsembl_api using (true) with check (true)', name);
        execute format('grant select, insert, update, delete on onsembl.%I to onsembl_api', name);
        lock table onsembl.steps_default in access exclusive mode;
        execute format(
            'with moved as (delete from onsembl.steps_default where at >= %L and at < %L returning *)
             insert into onsembl.%I select * from moved',
            day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC', name);
        execute format(
            'alter table onsembl.steps attach partition onsembl.%I for values from (%L) to (%L)',
            name, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
    end loop;
    select least(
        (select min(to_date(right(relname, 8), 'YYYYMMDD')) from pg_catalog.pg_class
         join pg_catalog.pg_inherits on inhrelid = oid
         where inhparent = 'onsembl.archive'::regclass and relname ~ '^archive_\d{8}$'),
        (select min(at at time zone 'UTC')::date from onsembl.archive_default),
        first) into oldest;
    for name in
        select relname from pg_catalog.pg_class
        join pg_catalog.pg_inherits on inhrelid = oid
        where inhparent = 'onsembl.steps'::regclass
          and relname ~ '^steps_\d{8}$' and to_date(right(relname, 8), 'YYYYMMDD') < oldest
    loop
        execute format('drop table onsembl.%I', name);
    end loop;
    delete from onsembl.steps_default where at < oldest::timestamp at time zone 'UTC';
end
$$;

revoke execute on function onsembl.keep_step_partitions(integer) from public;
grant execute on function onsembl.keep_step_partitions(integer) to onsembl_api;

select onsembl.keep_step_partitions(3);

-- How far a command's turn has come: one row that the dashboard follows, since the changes of a partition do not reach
-- subscribers of a hosted project.
create table onsembl.turn_progress (
    command_id uuid primary key references onsembl.commands on delete cascade,
    agent_id uuid not null references onsembl.agents on delete cascade,
    steps integer not null,
    number integer not null,                -- of the step that changed last, and what it is
    kind text not null,
    name text not null,
    title text not null,
    status text not null,
    changed bigint not null,
    updated_at timestamptz not null default now()
);
create index on onsembl.turn_progress (agent_id);

alter table onsembl.turn_progress enable row level security;
create policy api on onsembl.turn_progress to onsembl_api using (true) with check (true);
grant select, insert, update on onsembl.turn_progress to onsembl_api;
create policy operators_read on onsembl.turn_progress for select to authenticated using (onsembl.is_operator());
grant select on onsembl.turn_progress to authenticated;

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table onsembl.turn_progress;
    end if;
end
$$;
