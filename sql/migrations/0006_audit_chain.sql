-- The audit log in daily partitions, append-only, and a chain of hashes over it.
--
-- Rows are added by whoever does something, at no cost to each other. A sealer adds them to the chain a moment later, in
-- an order of its own: which rows it has still to seal it knows by `tx`, the transaction that wrote them. Transactions
-- below the horizon of a snapshot are over, so no row of theirs can appear any more.

alter table onsembl.audit rename to audit_before;
alter table onsembl.audit_before rename constraint audit_pkey to audit_before_pkey;
alter index onsembl.audit_at_idx rename to audit_before_at_idx;

create table onsembl.audit (
    id bigint generated always as identity,
    at timestamptz not null default now(),
    tx xid8 not null default pg_current_xact_id(),
    actor_kind text not null check (actor_kind in ('operator', 'agent', 'system', 'anonymous')),
    actor_id uuid,
    actor_name text not null default '',
    action text not null,
    target_kind text not null default '',
    target_id text not null default '',
    address text not null default '',           -- where the request came from
    outcome text not null check (outcome in ('ok', 'refused', 'failed')),
    detail jsonb not null default '{}',
    primary key (id, at)
) partition by range (at);
create index on onsembl.audit (tx);
create index on onsembl.audit (at desc, id desc);
create index on onsembl.audit (action, at desc);
create index on onsembl.audit (target_id, at desc) where target_id <> '';
alter table onsembl.audit enable row level security;
create policy api on onsembl.audit to onsembl_api using (true) with check (true);
grant select, insert on onsembl.audit to onsembl_api;

create table onsembl.audit_chain (
    seq bigint primary key,                     -- 1, 2, 3 …
    audit_id bigint not null unique,
    audit_at timestamptz not null,
    row_hash bytea not null,                    -- SHA-256 of the row's text
    hash bytea not null                         -- SHA-256 of the hash before, followed by row_hash
);
alter table onsembl.audit_chain enable row level security;
create policy api on onsembl.audit_chain to onsembl_api using (true) with check (true);
grant select, insert on onsembl.audit_chain to onsembl_api;

-- Where the chain stands. One row.
create table onsembl.audit_seal (
    one boolean primary key default true check (one),
    horizon xid8 not null,                      -- rows of transactions below are sealed
    seq bigint not null,
    hash bytea not null,
    at timestamptz not null default now()
);
insert into onsembl.audit_seal (horizon, seq, hash) values ('0', 0, decode(repeat('00', 32), 'hex'));
alter table onsembl.audit_seal enable row level security;
create policy api on onsembl.audit_seal to onsembl_api using (true) with check (true);
grant select, update on onsembl.audit_seal to onsembl_api;

-- What was dropped with its day: the chain begins after the last of these, with its hash.
create table onsembl.audit_anchors (
    seq bigint primary key,
    hash bytea not null,
    dropped_before timestamptz not null,
    at timestamptz not null default now()
);
insert into onsembl.audit_anchors (seq, hash, dropped_before) values (0, decode(repeat('00', 32), 'hex'), '-infinity');
alter table onsembl.audit_anchors enable row level security;
create policy api on onsembl.audit_anchors to onsembl_api using (true) with check (true);
grant select on onsembl.audit_anchors to onsembl_api;

-- Not even the table's owner changes a row by a slip; retention drops whole days.
create function onsembl.refuse_change() returns trigger
    language plpgsql as
$$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;
revoke execute on function onsembl.refuse_change() from public;

create trigger append_only before update or delete on onsembl.audit
    for each row execute function onsembl.refuse_change();
create trigger no_truncate before truncate on onsembl.audit
    for each statement execute function onsembl.refuse_change();

-- Makes the partitions of the days to come and drops the days that are older than `keep_days`, at least 30; the names of
-- those dropped. With definer's rights, so that the server's role needs none over the table. Attaching an empty table
-- stops no reader and no writer; dropping one does, so it gives up when somebody reads, and is done the next time.
create function onsembl.keep_audit_partitions(keep_days integer) returns setof text
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
    for day in select generate_series(today - 1, today + 14, interval '1 day')::date loop
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
revoke execute on function onsembl.keep_audit_partitions(integer) from public;
grant execute on function onsembl.keep_audit_partitions(integer) to onsembl_api;

select onsembl.keep_audit_partitions(30);

-- What was logged so far; each day in its partition.
do $$
declare
    day date;
begin
    for day in select distinct (at at time zone 'UTC')::date from onsembl.audit_before
               where at < (now() at time zone 'UTC')::date - 1 loop
        execute format('create table onsembl.%I partition of onsembl.audit for values from (%L) to (%L)',
            'audit_' || to_char(day, 'YYYYMMDD'), day::timestamp at time zone 'UTC',
            (day + 1)::timestamp at time zone 'UTC');
        execute format('alter table onsembl.%I enable row level security', 'audit_' || to_char(day, 'YYYYMMDD'));
        execute format('create trigger no_truncate before truncate on onsembl.%I
            for each statement execute function onsembl.refuse_change()', 'audit_' || to_char(day, 'YYYYMMDD'));
    end loop;
end
$$;

insert into onsembl.audit (id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, address, outcome, detail)
    overriding system value
    select id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, address, outcome, detail
    from onsembl.audit_before;
select setval(pg_get_serial_sequence('onsembl.audit', 'id'), coalesce((select max(id) from onsembl.audit), 1),
              exists (select from onsembl.audit));
drop table onsembl.audit_before;
