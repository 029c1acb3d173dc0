-- What a Supabase project has before anything of ours: its roles, the claims of a request as functions, and the
-- publication that Realtime follows. Applied only where the built-in stand-in serves.

do $$
declare
    wanted text;
begin
    foreach wanted in array array['anon', 'authenticated'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            execute format('create role %I nologin noinherit', wanted);
        end if;
    end loop;
    if not exists (select from pg_roles where rolname = 'service_role') then
        create role service_role nologin noinherit bypassrls;
    end if;
    execute format('grant anon, authenticated, service_role to %I', current_user);
end
$$;

create schema if not exists auth;
grant usage on schema auth to anon, authenticated, service_role;

create or replace function auth.jwt() returns jsonb
    language sql stable
    return coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb, '{}'::jsonb);

create or replace function auth.uid() returns uuid
    language sql stable
    return (auth.jwt() ->> 'sub')::uuid;

create or replace function auth.role() returns text
    language sql stable
    return auth.jwt() ->> 'role';

do $$
begin
    if not exists (select from pg_publication where pubname = 'supabase_realtime') then
        create publication supabase_realtime;
    end if;
end
$$;
