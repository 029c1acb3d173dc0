-- The audit log's partitions are made a week ahead instead of two: whoever reads the log without a day opens each of
-- them, which takes Postgres a third of a millisecond on a new connection.

create or replace function onsembl.keep_audit_partitions(keep_days integer) returns setof text
    language plpgsql security definer set search_path = '' set lock_timeout = '1s' as
$$
declare
    today date := (now() at time zone 'UTC')::date;
    day date;
    part text;
    boundary timestamptz := (today - keep_days)::timestamp at time zone 'UTC';
    first bigint;
begin
    if keep_days < 30 then
        raise exception 'the audit log is kept for 30 days at least' using errcode = 'invalid_parameter_value';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('onsembl:audit partitions', 0));
    for day in select generate_series(today - 1, today + 7, interval '1 day')::date loop
        part := 'audit_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass('onsembl.' || part) is not null;
        execute format('create table onsembl.%I (like onsembl.audit including defaults including constraints)', part);
        execute format('alter table onsembl.%I enable row level security', part);
        execute format('create trigger no_truncate before truncate on onsembl.%I
            for each statement execute function onsembl.refuse_change()', part);
        execute format('alter table onsembl.audit attach partition onsembl.%I for values from (%L) to (%L)',
            part, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
    end loop;
    for part in
        select c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'onsembl.audit'::regclass and c.relname ~ '^audit_\d{8}$'
          and to_date(right(c.relname, 8), 'YYYYMMDD') < today - keep_days
        order by 1
    loop
        begin
            execute format('drop table onsembl.%I', part);
            return next part;
        exception when lock_not_available then
            return;
        end;
    end loop;
    -- The chain is kept from the first row that is still there; rows of dropped days may follow it, for the order of the
    -- chain is not quite that of time.
    select coalesce(min(seq), (select seq + 1 from onsembl.audit_seal)) into first
        from onsembl.audit_chain where audit_at >= boundary;
    insert into onsembl.audit_anchors (seq, hash, dropped_before)
        select first - 1, c.hash, boundary from onsembl.audit_chain c where c.seq = first - 1
        on conflict (seq) do nothing;
    delete from onsembl.audit_chain where seq < first;
    update onsembl.audit_anchors set dropped_before = boundary
        where seq = (select max(seq) from onsembl.audit_anchors) and dropped_before < boundary;
end
$$;

-- A new database has none to spare. In one that is used they stay until their days have passed: a drop stops readers.
do $$
declare
    part text;
begin
    if exists (select from onsembl.audit) then
        return;
    end if;
    for part in
        select c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'onsembl.audit'::regclass and c.relname ~ '^audit_\d{8}$'
          and to_date(right(c.relname, 8), 'YYYYMMDD') > (now() at time zone 'UTC')::date + 7
    loop
        execute format('drop table onsembl.%I', part);
    end loop;
end
$$;
