-- What Realtime asks about a subscriber and about a row, and the changes of users that end sessions elsewhere.

-- Whether the policies may let each of these claims see some row of a table. The policies are evaluated on a row of
-- nulls: where they are false whatever a row holds, no row is visible; where they depend on the row, the answer is
-- true.
create function realtime.may_see(target regclass, roles text[], claims text[]) returns boolean[]
    language plpgsql volatile
    set search_path to '' as -- so that the policies' text names each function with its schema
$$
declare
    before constant text := current_setting('role');
    answer boolean[] := '{}';
    condition text;
    possible boolean;
begin
    for i in 1 .. cardinality(roles) loop
        select format('(%s)%s', coalesce(string_agg(format('(%s)', pg_get_expr(p.polqual, p.polrelid)), ' or ')
                filter (where p.polpermissive), 'false'),
            coalesce(string_agg(format(' and (%s)', pg_get_expr(p.polqual, p.polrelid)), '')
                filter (where not p.polpermissive), ''))
            into condition
            from pg_policy p
            where p.polrelid = target and p.polcmd in ('r', '*') and (0 = any (p.polroles)
                or exists (select from unnest(p.polroles) as r where pg_has_role(roles[i], r, 'usage')));
        begin
            perform set_config('role', roles[i], true), set_config('request.jwt.claims', claims[i], true);
            execute format('select coalesce((%s), true) from (select (null::%s).*) as %I',
                condition, target, (select relname from pg_class where oid = target)) into possible;
        exception when others then -- a policy that fails lets nobody see
            possible := false;
        end;
        perform set_config('role', before, true);
        answer := answer || possible;
    end loop;
    perform set_config('request.jwt.claims', '', true);
    return answer;
end
$$;

-- How many published tables a subscription concerns of which the role may read a column: to others it does not even
-- tell when one changes. Raises when a filter or a selected column is not for one of them.
create or replace function realtime.check_subscription(
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
        select coalesce(array_agg(a.attname), '{}') into readable
            from pg_attribute a join pg_class c on c.oid = a.attrelid
            where a.attrelid = target and a.attnum > 0 and not a.attisdropped
                and has_schema_privilege(role, c.relnamespace, 'usage')
                and has_column_privilege(role, a.attrelid, a.attnum, 'select');
        continue when cardinality(readable) = 0;
        found_tables := found_tables + 1;
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

-- The stored generated columns of a row whose other columns are given as text. A column whose expression needs a value
-- that is not given is left out.
create function realtime.generated_values(target regclass, given text[], given_values text[])
    returns table (name text, value text)
    language plpgsql stable
    set search_path to '' set timezone to 'UTC' set datestyle to 'ISO' set intervalstyle to 'postgres' set bytea_output to 'hex'
    set extra_float_digits to 1 as
$$
declare
    source text;
    expression text;
begin
    select string_agg(case
            when n is not null then format('%L::%s as %I', given_values[n], format_type(a.atttypid, a.atttypmod), a.attname)
            else format('null::%s as %I', format_type(a.atttypid, a.atttypmod), a.attname) end, ', ' order by a.attnum)
        into source
        from pg_attribute a left join lateral (select array_position(given, a.attname::text) as n) as p on true
        where a.attrelid = target and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
    for name, expression in
        select a.attname, pg_get_expr(d.adbin, d.adrelid)
            from pg_attribute a join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = target and a.attgenerated = 's' and not exists (
                select from pg_depend r
                join pg_attribute used on used.attrelid = target and used.attnum = r.refobjsubid
                where r.classid = 'pg_attrdef'::regclass and r.objid = d.oid and r.refobjid = target
                    and used.attnum <> a.attnum and not used.attname::text = any (given))
            order by a.attnum
    loop
        begin
            execute format('select (%s)::text from (select %s) as %I', expression, source,
                (select relname from pg_class where oid = target)) into value;
            return next;
        exception when others then -- the table has been altered since
            null;
        end;
    end loop;
end
$$;

-- The outbox holds a row's columns as they were in its transaction: name, type and whether the replica identity has it.
alter table realtime.outbox add column columns jsonb;

create or replace function realtime.write_outbox() returns trigger
    language plpgsql volatile security definer
    set search_path to '' set timezone to 'UTC' set datestyle to 'ISO' set intervalstyle to 'postgres'
    set bytea_output to 'hex' set extra_float_digits to 1 as
$$
begin
    insert into realtime.outbox (relation, kind, new, old, columns) values (
        tg_argv[0]::oid, tg_op,
        case when tg_op <> 'DELETE' then new::text end, case when tg_op <> 'INSERT' then old::text end,
        (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(a.attname, a.atttypid::bigint,
                c.relreplident = 'f' or coalesce(a.attnum = any (i.indkey::int2[]), false)) order by a.attnum)
            from pg_catalog.pg_class c
            join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            left join pg_catalog.pg_index i on i.indrelid = c.oid and
                case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary else false end
            where c.oid = tg_relid));
    perform pg_catalog.pg_notify('realtime_outbox', '');
    return null;
end
$$;

-- The role that the user of the request's token has now; null when the user is banned or deleted, or the session ended.
create function auth.present_role() returns text
    language sql stable security definer set search_path = ''
    return (
        select u.app_metadata ->> 'role'
        from auth.users u join auth.sessions s on s.user_id = u.id
        where u.id = auth.uid() and s.id = (auth.jwt() ->> 'session_id')::uuid
            and (u.banned_until is null or u.banned_until <= now()));
revoke execute on function auth.present_role() from public;

-- A user who is banned, deleted or given another role, and a user's session that ends, are known to every instance at
-- once. The messages are those of fleet/instance_messages.py.
create function auth.notify_user_changed() returns trigger
    language plpgsql volatile as
$$
declare
    changed uuid;
begin
    if tg_table_name = 'sessions' then
        changed := old.user_id;
    else
        changed := old.id;
    end if;
    perform pg_notify('onsembl_instances', json_build_object('op', 'operator_changed', 'operator_id', changed)::text);
    return null;
end
$$;

create trigger notify_changed after update of banned_until, app_metadata on auth.users
    for each row
    when (old.banned_until is distinct from new.banned_until or old.app_metadata is distinct from new.app_metadata)
    execute function auth.notify_user_changed();
create trigger notify_deleted after delete on auth.users
    for each row execute function auth.notify_user_changed();
create trigger notify_ended after delete on auth.sessions
    for each row execute function auth.notify_user_changed();
