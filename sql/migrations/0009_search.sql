-- Full-text search: what terminals showed as lines of text, in daily partitions that go with the archive's.

-- Trigrams find any part of a word or path. They come with Postgres; where they may not be installed, a search reads all
-- the text of the time it is asked about instead.
do $$
declare
    place text := case when exists (select from pg_namespace where nspname = 'extensions') then 'extensions' else 'public' end;
begin
    if exists (select from pg_available_extensions where name = 'pg_trgm') then
        execute format('create extension if not exists pg_trgm with schema %I', place);
    end if;
exception when insufficient_privilege then
    raise warning 'pg_trgm may not be installed here: searching will be slow.';
end
$$;

-- How far each stream is indexed: up to `indexed` for ever, and what the archive held up to `seen` has been looked at.
-- The line between the two had not ended; its row is at `open_at`, and is made anew when more has come.
create table onsembl.search_ends (
    stream_id uuid primary key references onsembl.streams (id) on delete cascade,
    indexed bigint not null default 0,
    seen bigint not null default 0,
    open_at timestamptz,
    carry text not null default ''              -- the end of a very long line's part before `indexed`
) with (fillfactor = 50);

-- A row is some lines of one stream. A line begins at the offset in `line_starts`, and came `line_ms` after `at`.
create table onsembl.search_text (
    stream_id uuid not null,
    agent_id uuid not null,
    start bigint not null,
    at timestamptz not null,
    text text not null,
    line_starts bigint[] not null,
    line_ms integer[] not null,
    primary key (stream_id, start, at)
) partition by range (at);
create index search_text_by_time on onsembl.search_text (at desc, stream_id desc, start desc);

do $$
declare
    place text;
begin
    select nspname into place from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
    where extname = 'pg_trgm';
    if place is not null then
        execute format('create index search_text_trigrams on onsembl.search_text using gin (text %I.gin_trgm_ops)', place);
        execute format('create index commands_trigrams on onsembl.commands using gin (text %I.gin_trgm_ops)', place);
    end if;
end
$$;

alter table onsembl.search_ends enable row level security;
alter table onsembl.search_text enable row level security;
create policy api on onsembl.search_ends to onsembl_api using (true) with check (true);
create policy api on onsembl.search_text to onsembl_api using (true) with check (true);
grant select, insert, update on onsembl.search_ends to onsembl_api;
grant select, insert, delete on onsembl.search_text to onsembl_api;

-- Takes what comes on a day whose partition was not made.
create table onsembl.search_text_default partition of onsembl.search_text default;
alter table onsembl.search_text_default enable row level security;
create policy api on onsembl.search_text_default to onsembl_api using (true) with check (true);
grant select, insert, delete on onsembl.search_text_default to onsembl_api;

-- Make the partitions from today to `days` ahead, and drop those of days that the archive has dropped. Definer's rights:
-- the server may neither make nor drop a table.
create function onsembl.keep_search_partitions(days integer) returns void
    language plpgsql security definer set search_path = '' set lock_timeout = '2s' as
$$
declare
    first date := (now() at time zone 'UTC')::date;
    oldest date;
    day date;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('onsembl:search_partitions', 0));
    for day in
        select distinct (at at time zone 'UTC')::date from onsembl.search_text_default
        union select first + ahead from generate_series(0, days) as ahead
        order by 1
    loop
        name := 'search_text_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass('onsembl.' || name) is not null;
        execute format('create table onsembl.%I (like onsembl.search_text including all)', name);
        execute format('alter table onsembl.%I enable row level security', name);
        execute format('create policy api on onsembl.%I to onsembl_api using (true) with check (true)', name);
        execute format('grant select, insert, delete on onsembl.%I to onsembl_api', name);
        lock table onsembl.search_text_default in access exclusive mode;
        execute format(
            'with moved as (delete from onsembl.search_text_default where at >= %L and at < %L returning *)
             insert into onsembl.%I select * from moved',
            day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC', name);
        execute format(
            'alter table onsembl.search_text attach partition onsembl.%I for values from (%L) to (%L)',
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
        where inhparent = 'onsembl.search_text'::regclass
          and relname ~ '^search_text_\d{8}$' and to_date(right(relname, 8), 'YYYYMMDD') < oldest
    loop
        execute format('drop table onsembl.%I', name);
    end loop;
    delete from onsembl.search_text_default where at < oldest::timestamp at time zone 'UTC';
end
$$;

revoke execute on function onsembl.keep_search_partitions(integer) from public;
grant execute on function onsembl.keep_search_partitions(integer) to onsembl_api;

select onsembl.keep_search_partitions(3);
