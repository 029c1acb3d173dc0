-- What the stand-in for Supabase Realtime asks the database.

create schema if not exists realtime;
grant usage on schema realtime to anon, authenticated, service_role;

-- Which of several subscribers may see a row, by its primary key, as row-level security says: one round trip for all.
-- The caller may set each of the roles. The answer holds for the row as it is now.
create function realtime.visible_to(
    target regclass, key_columns text[], key_values text[], roles text[], claims text[]
) returns boolean[]
    language plpgsql volatile as
$$
declare
    answer boolean[] := '{}';
    condition text;
    found_row boolean;
    before text := current_setting('role');
begin
    select string_agg(format('%I::text = %L', k, v), ' and ') into condition
        from unnest(key_columns, key_values) as pairs (k, v);
    for i in 1 .. cardinality(roles) loop
        perform set_config('role', roles[i], true), set_config('request.jwt.claims', claims[i], true);
        begin
            execute format('select exists (select from %s where %s)', target, condition) into found_row;
        exception when insufficient_privilege then
            found_row := false;
        end;
        answer := answer || found_row;
        perform set_config('role', before, true);
    end loop;
    perform set_config('request.jwt.claims', '', true);
    return answer;
end
$$;

-- Whether a value passes a subscriber's filter, compared as the column's type; null does not.
create function realtime.passes(value text, column_type regtype, operator text, argument text) returns boolean
    language plpgsql stable as
$$
declare
    passed boolean;
begin
    if operator = 'in' then
        execute format('select %L::%s = any (%L::%s[])', value, column_type, argument, column_type) into passed;
    elsif operator in ('=', '<>', '<', '<=', '>', '>=', 'is distinct from') then
        execute format('select %L::%s %s %L::%s', value, column_type, operator, argument, column_type) into passed;
    elsif operator in ('like', 'ilike', '~', '~*') then
        execute format('select %L %s %L', value, operator, argument) into passed;
    elsif operator = 'is' then
        execute format('select %L::%s is %s', value, case when argument = 'null' then column_type::text else 'boolean' end,
            case argument when 'null' then 'null' when 'true' then 'true' when 'false' then 'false' else 'unknown' end)
            into passed;
    else
        raise exception 'no such operator: %', operator;
    end if;
    return coalesce(passed, false);
end
$$;
