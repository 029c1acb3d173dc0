-- What the stand-in for Supabase Realtime has in the database: who may see a changed row, broadcasts sent by SQL and
-- the policies on them, and the outbox that takes over where the log cannot be followed.
--
-- The server calls these functions as the owner of the schema, which must be able to `set role` to every role that a
-- token may name.

create schema if not exists realtime;
grant usage on schema realtime to anon, authenticated, service_role;

-- Waits until these transactions are seen by others. The log tells of a commit a moment before it is.
-- The log names a transaction by the low half of its number: the whole one is the nearest to the next to be given.
create function realtime.await_commits(xids bigint[]) returns void
    language plpgsql volatile as
$$
declare
    next bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    whole xid8[];
begin
    select array_agg((next + (((x - next) % 4294967296 + 6442450944) % 4294967296 - 2147483648))::text::xid8)
        into whole from unnest(xids) as x;
    for attempt in 1 .. 5000 loop
        exit when (select coalesce(bool_and(pg_visible_in_snapshot(x, pg_current_snapshot())), true)
            from unnest(whole) as x);
        perform pg_sleep(0.0005);
    end loop;
end
$$;

-- Which of several rows, named by their keys, each of several subscribers may see now, as row-level security says.
-- `keys` holds the values of the key's columns, row by row. Rows and subscribers are numbered from 1.
create function realtime.visible_rows(
    target regclass, key_columns text[], key_types text[], keys text[], roles text[], claims text[]
) returns table (subscriber integer, visible integer[])
    language plpgsql volatile as
$$
declare
    before constant text := current_setting('role');
    width constant integer := cardinality(key_columns);
    arguments text;
    working_role text := '';
begin
    if exists (select from pg_prepared_statements where name = 'realtime_visible') then
        deallocate realtime_visible;
    end if;
    begin
        execute format(
            'prepare realtime_visible as select coalesce(array_agg(k.n::integer), ''{}'')
                from unnest(%s) with ordinality as k(%s, n) where exists (select from %s as t where %s)',
            (select string_agg(format('$%s::%s[]', i, key_types[i]), ', ') from generate_series(1, width) as i),
            (select string_agg('v' || i, ', ') from generate_series(1, width) as i),
            target,
            (select string_agg(format('t.%I = k.v%s', key_columns[i], i), ' and ')
                from generate_series(1, width) as i));
    exception when undefined_table or undefined_column or undefined_object then -- it is gone meanwhile
        return query select i, '{}'::integer[] from generate_series(1, cardinality(roles)) as i;
        return;
    end;
    select string_agg(format('%L', (
            select array_agg(keys[(r - 1) * width + i] order by r) from generate_series(1, cardinality(keys) / width) as r
        )), ', ' order by i)
        into arguments from generate_series(1, width) as i;
    for i in 1 .. cardinality(roles) loop
        subscriber := i;
        begin
            if roles[i] <> working_role then
                perform set_config('role', roles[i], true);
                working_role := roles[i];
            end if;
            perform set_config('request.jwt.claims', claims[i], true);
            execute 'execute realtime_visible(' || arguments || ')' into visible;
        exception when others then -- a policy that fails lets nobody see
            visible := '{}';
            working_role := '';
        end;
        return next;
    end loop;
    perform set_config('role', before, true), set_config('request.jwt.claims', '', true);
    deallocate realtime_visible;
end
$$;

-- Whether values pass filters, compared as their columns' types. A comparison that gives null, or fails, does not.
create function realtime.passing(
    column_values text[], column_types text[], operators text[], arguments text[], negated boolean[]
) returns boolean[]
    language plpgsql stable as
$$
declare
    answer boolean[] := '{}';
    passed boolean;
begin
    for i in 1 .. cardinality(operators) loop
        begin
            passed := realtime.passes(column_values[i], column_types[i], operators[i], arguments[i]);
        exception when data_exception or undefined_function or undefined_object then
            passed := null;
        end;
        answer := answer || coalesce(passed <> negated[i], false);
    end loop;
    return answer;
end
$$;

-- One comparison, null where SQL says so.
create function realtime.passes(value text, column_type text, operator text, argument text) returns boolean
    language plpgsql stable as
$$
declare
    passed boolean;
begin
    case operator
        when 'in' then
            execute format('select %L::%s = any (%L::%s[])', value, column_type, argument, column_type) into passed;
        when 'isdistinct' then
            execute format('select %L::%s is distinct from %L::%s', value, column_type, argument, column_type)
                into passed;
        when 'is' then
            if argument not in ('null', 'true', 'false', 'unknown') then
                raise exception 'invalid value for is filter: must be null, true, false, or unknown';
            end if;
            execute format('select %L::%s is %s', value, column_type, argument) into passed;
        else
            execute format('select %L::%s %s %L::%s', value, column_type, case operator
                when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<=' when 'gt' then '>'
                when 'gte' then '>=' when 'like' then '~~' when 'ilike' then '~~*' when 'match' then '~'
                when 'imatch' then '~*' end, argument, column_type) into passed;
    end case;
    return passed;
end
$$;

-- The JSON of values, as to_jsonb makes it; bytes as their text.
create function realtime.json_texts(column_values text[], column_types text[]) returns text[]
    language plpgsql stable as
$$
declare
    answer text[] := '{}';
    converted text;
begin
    for i in 1 .. cardinality(column_values) loop
        begin
            execute format('select to_jsonb(%L::%s)::text', column_values[i], column_types[i]) into converted;
        exception when undefined_object or data_exception then -- the type is gone, or another
            converted := to_jsonb(column_values[i])::text;
        end;
        answer := answer || converted;
    end loop;
    return answer;
end
$$;

-- How many published tables a subscription concerns. Raises when a filter or a selected column is not for one of them.
create function realtime.check_subscription(
    publication text, wanted_schema text, wanted_table text, role text,
    filter_columns text[], operators text[], arguments text[], selected text[]
) returns integer
    language plpgsql stable as
$$
declare
    found_tables integer := 0;
    target regclass;
    readable text[];
    column_type regtype;
begin
    for target in
        select format('%I.%I', p.schemaname, p.tablename)::regclass from pg_publication_tables p
            where p.pubname = publication and wanted_schema in ('*', p.schemaname) and wanted_table in ('*', p.tablename)
    loop
        found_tables := found_tables + 1;
        select coalesce(array_agg(a.attname), '{}') into readable from pg_attribute a
            where a.attrelid = target and a.attnum > 0 and not a.attisdropped
                and has_column_privilege(role, a.attrelid, a.attnum, 'select');
        for i in 1 .. cardinality(filter_columns) loop
            if not filter_columns[i] = any (readable) then
                raise exception 'invalid column for filter %', filter_columns[i];
            end if;
            select a.atttypid::regtype into column_type from pg_attribute a
                where a.attrelid = target and a.attname = filter_columns[i];
            perform realtime.check_filter(column_type, operators[i], arguments[i]);
        end loop;
        for i in 1 .. coalesce(cardinality(selected), 0) loop
            if not selected[i] = any (readable) then
                raise exception 'invalid column for select %', selected[i];
            end if;
        end loop;
    end loop;
    return found_tables;
end
$$;

create function realtime.check_filter(column_type regtype, operator text, argument text) returns void
    language plpgsql stable as
$$
declare
    size integer;
    symbol text;
begin
    if operator = 'in' then
        execute format('select cardinality(%L::%s[])', argument, column_type) into size;
        if size > 100 then
            raise exception 'too many values for `in` filter. Maximum 100';
        end if;
    elsif operator = 'is' then
        if argument not in ('null', 'true', 'false', 'unknown') then
            raise exception 'invalid value for is filter: must be null, true, false, or unknown';
        elsif argument <> 'null' and column_type <> 'boolean'::regtype then
            raise exception 'is % filter requires a boolean column, got %', argument, column_type;
        end if;
    elsif operator in ('like', 'ilike', 'match', 'imatch') then
        symbol := case operator when 'match' then '~' when 'imatch' then '~*' else '~~' end;
        if not exists (select from pg_operator o where o.oprname = symbol and o.oprleft = column_type) then
            raise exception 'operator % requires a text-compatible column type, got %', operator, column_type;
        end if;
        if operator in ('match', 'imatch') then
            begin
                perform '' ~ argument;
            exception when others then
                raise exception 'invalid regular expression for % filter: %', operator, sqlerrm;
            end;
        end if;
    else
        execute format('select %L::%s', argument, column_type);
    end if;
end
$$;

-- Broadcasts that the database sends, and the table whose policies say who may hear and speak on a private topic. Kept
-- for three days, a partition a day.
create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default (now() at time zone 'utc'),
    inserted_at timestamp not null default (now() at time zone 'utc'),
    id uuid not null default gen_random_uuid(),
    binary_payload bytea,
    primary key (id, inserted_at)
) partition by range (inserted_at);
create index messages_replay on realtime.messages (topic, inserted_at desc)
    where private and extension = 'broadcast';
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;

create publication supabase_realtime_messages_publication for table realtime.messages
    with (publish = 'insert', publish_via_partition_root = true);

-- Makes the partitions of the days around this one, and drops those that are too old.
create function realtime.maintain_messages() returns void
    language plpgsql volatile as
$$
declare
    today constant date := (now() at time zone 'utc')::date;
    name text;
begin
    perform pg_advisory_xact_lock(hashtext('realtime.maintain_messages'));
    for day in -1 .. 3 loop
        name := to_char(today + day, '"messages_"YYYY_MM_DD');
        if to_regclass('realtime.' || name) is null then
            execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
                name, today + day, today + day + 1);
            execute format('alter table realtime.%I enable row level security', name);
        end if;
    end loop;
    for name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = 'realtime.messages'::regclass
                and c.relname < to_char(today - 3, '"messages_"YYYY_MM_DD')
    loop
        execute format('drop table realtime.%I', name);
    end loop;
end
$$;
select realtime.maintain_messages();

create function realtime.topic() returns text
    language sql stable
    return nullif(current_setting('realtime.topic', true), '');

create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
    language plpgsql volatile as
$$
declare
    message_id constant uuid := gen_random_uuid();
begin
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
        values (message_id, jsonb_build_object('id', message_id) || payload, event, topic, private, 'broadcast');
exception when others then -- the sender's transaction goes on without it
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
    language plpgsql volatile as
$$
begin
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (binary_payload, event, topic, private, extension)
        values (payload, event, topic, private, 'broadcast');
exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- For a trigger: sends the row that changed.
create function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record,
    level text default 'ROW'
) returns void
    language plpgsql volatile as
$$
begin
    if level = 'STATEMENT' then
        raise exception 'function can only be triggered for each row, not for each statement';
    elsif operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'Unexpected operation type: %', operation;
    end if;
    perform realtime.send(
        jsonb_build_object('schema', table_schema, 'table', table_name, 'operation', operation,
            'record', new, 'old_record', old),
        event_name, topic_name);
exception when others then
    raise exception 'Failed to process the row: %', sqlerrm;
end
$$;

-- Which extensions these claims may read on a topic: messages are tried and taken back.
create function realtime.readable(wanted_topic text, role text, claims text, extensions text[]) returns text[]
    language plpgsql volatile as
$$
declare
    ids uuid[];
    answer text[];
begin
    with tried as (
        insert into realtime.messages (topic, extension)
            select wanted_topic, e from unnest(extensions) as e returning id)
    select array_agg(id) into ids from tried;
    perform realtime.become(wanted_topic, role, claims);
    select array_agg(m.extension) into answer from realtime.messages m
        where m.id = any (ids) and m.inserted_at = (now() at time zone 'utc');
    raise exception using errcode = 'RT001'; -- undoes all but the answer
exception when sqlstate 'RT001' then
    return coalesce(answer, '{}');
end
$$;

-- Which extensions these claims may write on a topic.
create function realtime.writable(wanted_topic text, role text, claims text, extensions text[]) returns text[]
    language plpgsql volatile as
$$
declare
    answer text[] := '{}';
begin
    perform realtime.become(wanted_topic, role, claims);
    for i in 1 .. cardinality(extensions) loop
        begin
            insert into realtime.messages (topic, extension) values (wanted_topic, extensions[i]);
            answer := answer || extensions[i];
        exception when insufficient_privilege then
            null;
        end;
    end loop;
    raise exception using errcode = 'RT001';
exception when sqlstate 'RT001' then
    return answer;
end
$$;

-- Until the end of the transaction, who policies see.
create function realtime.become(wanted_topic text, role text, claims text) returns void
    language plpgsql volatile as
$$
begin
    perform set_config('realtime.topic', wanted_topic, true),
        set_config('request.jwt.claims', claims, true),
        set_config('request.jwt.claim.sub', coalesce(claims::jsonb ->> 'sub', ''), true),
        set_config('request.jwt.claim.role', role, true),
        set_config('request.headers', '{}', true);
    perform set_config('role', role, true);
end
$$;

-- Changes, where the log cannot be followed: triggers write them here. A reader knows what it has not seen by the
-- transaction, since numbers are given out in another order than that of the commits.
create table realtime.outbox (
    id bigint generated always as identity primary key,
    xid xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    relation oid not null,
    kind text not null,
    new text,                                   -- the row, as a record's text
    old text
);
create index on realtime.outbox (xid);
create index on realtime.outbox (at);
alter table realtime.outbox enable row level security;

create function realtime.write_outbox() returns trigger
    language plpgsql volatile security definer
    set search_path to '' set timezone to 'UTC' set datestyle to 'ISO' set intervalstyle to 'postgres'
    set bytea_output to 'hex' set extra_float_digits to 1 as
$$
begin
    insert into realtime.outbox (relation, kind, new, old) values (
        tg_argv[0]::oid, tg_op,
        case when tg_op <> 'DELETE' then new::text end, case when tg_op <> 'INSERT' then old::text end);
    perform pg_notify('realtime_outbox', '');
    return null;
end
$$;

-- Puts the triggers on every table of a publication; the tables.
create function realtime.install_outbox(publication text) returns oid[]
    language plpgsql volatile as
$$
declare
    target regclass;
    answer oid[] := '{}';
begin
    perform pg_advisory_xact_lock(hashtext('realtime.outbox'));
    for target in
        select format('%I.%I', p.schemaname, p.tablename)::regclass from pg_publication_tables p
            where p.pubname = publication
    loop
        answer := answer || target::oid;
        if not exists (select from pg_trigger t where t.tgrelid = target and t.tgname = 'realtime_outbox') then
            execute format('create trigger realtime_outbox after insert or update or delete on %s
                for each row execute function realtime.write_outbox(%s)', target, target::oid::text);
        end if;
    end loop;
    return answer;
end
$$;

-- Takes the triggers off again.
create function realtime.remove_outbox() returns void
    language plpgsql volatile as
$$
declare
    target regclass;
begin
    perform pg_advisory_xact_lock(hashtext('realtime.outbox'));
    for target in select t.tgrelid from pg_trigger t where t.tgname = 'realtime_outbox' and t.tgparentid = 0 loop
        execute format('drop trigger realtime_outbox on %s', target);
    end loop;
    delete from realtime.outbox;
end
$$;
