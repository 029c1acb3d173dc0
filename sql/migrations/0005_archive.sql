-- The archive: every byte of every terminal with its time, in daily partitions that retention drops whole.

-- A row is a run of one stream's bytes.
create table onsembl.archive (
    stream_id uuid not null,                    -- no foreign key: it would be asked for every row written
    start bigint not null,                      -- the offset of the first byte
    length integer not null check (length > 0), -- in bytes, before compression
    at timestamptz not null,                    -- when the first piece came
    pieces bytea not null,                      -- when each piece came, and its length: see sql/archive_rows.py
    data bytea not null                         -- the bytes, compressed
) partition by range (at);
alter table onsembl.archive alter data set storage external, alter pieces set storage external;
create index archive_by_place on onsembl.archive (stream_id, start);
create index archive_by_time on onsembl.archive (stream_id, at);

-- How far each stream is archived. Whoever writes holds the row and writes from there on, so that two processes which
-- both hold a stream's bytes cannot write one twice, or leave one out.
create table onsembl.archive_ends (
    stream_id uuid primary key references onsembl.streams (id) on delete cascade,
    ended bigint not null default 0
) with (fillfactor = 50);

-- What a stream takes on disk, by day: summed up here, for the archive itself is too large to ask.
create table onsembl.archive_days (
    stream_id uuid not null,
    day date not null,                          -- in UTC, as the partitions are
    stored bigint not null,                     -- bytes after compression
    primary key (stream_id, day)
) with (fillfactor = 50);

-- The size of a stream's terminal over time: from the byte at `start` on it is this.
create table onsembl.stream_sizes (
    stream_id uuid not null references onsembl.streams (id) on delete cascade,
    start bigint not null,
    at timestamptz not null default now(),
    columns integer not null,
    rows integer not null,
    primary key (stream_id, start)
);

alter table onsembl.archive enable row level security;
alter table onsembl.archive_ends enable row level security;
alter table onsembl.archive_days enable row level security;
alter table onsembl.stream_sizes enable row level security;
create policy api on onsembl.archive to onsembl_api using (true) with check (true);
create policy api on onsembl.archive_ends to onsembl_api using (true) with check (true);
create policy api on onsembl.archive_days to onsembl_api using (true) with check (true);
create policy api on onsembl.stream_sizes to onsembl_api using (true) with check (true);
grant select, insert on onsembl.archive to onsembl_api;
grant select, insert, update on onsembl.archive_ends to onsembl_api;
grant select, insert, update, delete on onsembl.archive_days to onsembl_api;
grant select, insert, update on onsembl.stream_sizes to onsembl_api;

-- Takes what comes on a day whose partition was not made: a write never fails for that.
create table onsembl.archive_default partition of onsembl.archive default;
alter table onsembl.archive_default enable row level security;
create policy api on onsembl.archive_default to onsembl_api using (true) with check (true);
grant select, insert on onsembl.archive_default to onsembl_api;

-- The partitions from today to `days` ahead, where they are missing; what the default one holds of such a day moves
-- there. Definer's rights: the server may neither make nor drop a table.
create function onsembl.make_archive_partitions(days integer) returns setof text
    language plpgsql security definer set search_path = '' set lock_timeout = '2s' as
$$
declare
    first date := (now() at time zone 'UTC')::date;
    day date;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('onsembl:archive_partitions', 0));
    for day in
        select distinct (at at time zone 'UTC')::date from onsembl.archive_default
        union select first + ahead from generate_series(0, days) as ahead
        order by 1
    loop
        name := 'archive_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass('onsembl.' || name) is not null;
        execute format('create table onsembl.%I (like onsembl.archive including all)', name);
        execute format('alter table onsembl.%I enable row level security', name);
        execute format('create policy api on onsembl.%I to onsembl_api using (true) with check (true)', name);
        execute format('grant select, insert on onsembl.%I to onsembl_api', name);
        lock table onsembl.archive_default in access exclusive mode;
        execute format(
            'with moved as (delete from onsembl.archive_default where at >= %L and at < %L returning *)
             insert into onsembl.%I select * from moved',
            day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC', name);
        execute format(
            'alter table onsembl.archive attach partition onsembl.%I for values from (%L) to (%L)',
            name, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
        return next name;
    end loop;
end
$$;

-- Drop the partitions whose every byte is older than `days`. A reader in the middle of one keeps it until the next try,
-- so that writers do not wait behind us.
create function onsembl.drop_archive_partitions(days integer) returns setof text
    language plpgsql security definer set search_path = '' set lock_timeout = '2s' as
$$
declare
    oldest date := (now() at time zone 'UTC')::date - days;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('onsembl:archive_partitions', 0));
    for name in
        select relname from pg_catalog.pg_class
        join pg_catalog.pg_inherits on inhrelid = oid
        where inhparent = 'onsembl.archive'::regclass
          and relname ~ '^archive_\d{8}$' and to_date(right(relname, 8), 'YYYYMMDD') < oldest
        order by relname
    loop
        execute format('drop table onsembl.%I', name);
        return next name;
    end loop;
    delete from onsembl.archive_default where at < oldest::timestamp at time zone 'UTC';
    delete from onsembl.archive_days where day < oldest;
end
$$;

revoke execute on function onsembl.make_archive_partitions(integer), onsembl.drop_archive_partitions(integer) from public;
grant execute on function onsembl.make_archive_partitions(integer), onsembl.drop_archive_partitions(integer)
    to onsembl_api;

select onsembl.make_archive_partitions(3);
