-- What the stand-in for Supabase Auth keeps. Only the role `onsembl_auth` reads it: the server's own role does not see
-- password hashes or signing keys.

do $$
begin
    if not exists (select from pg_roles where rolname = 'onsembl_auth') then
        create role onsembl_auth nologin noinherit;
    end if;
    execute format('grant onsembl_auth to %I', current_user);
end
$$;

create table auth.users (
    id uuid primary key default gen_random_uuid(),
    email text not null,
    encrypted_password text not null,
    app_metadata jsonb not null default '{"provider": "email", "providers": ["email"]}',
    user_metadata jsonb not null default '{}',
    email_confirmed_at timestamptz,
    banned_until timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    last_sign_in_at timestamptz
);
create unique index users_email on auth.users (lower(email));

-- A session's refresh tokens are numbered and derived from its id, the number and a secret key, so none is stored:
-- `counter` is the number of the one that is good.
create table auth.sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references auth.users (id) on delete cascade,
    created_at timestamptz not null default now(),
    refreshed_at timestamptz not null default now(),
    not_after timestamptz,
    counter integer not null default 0
);
create index on auth.sessions (user_id);

create table auth.signing_keys (
    kid text primary key,
    private_pem text not null,
    created_at timestamptz not null default now(),
    retired_at timestamptz
);

-- One row: the project's keys, and the secret that refresh tokens are derived with.
create table auth.project (
    only_row boolean primary key default true check (only_row),
    publishable_key text not null,
    secret_key text not null,
    refresh_secret bytea not null
);

alter table auth.users enable row level security;
alter table auth.sessions enable row level security;
alter table auth.signing_keys enable row level security;
alter table auth.project enable row level security;
create policy auth_service on auth.users to onsembl_auth using (true) with check (true);
create policy auth_service on auth.sessions to onsembl_auth using (true) with check (true);
create policy auth_service on auth.signing_keys to onsembl_auth using (true) with check (true);
create policy auth_service on auth.project to onsembl_auth using (true) with check (true);

grant usage on schema auth to onsembl_auth;
grant select, insert, update, delete on auth.users, auth.sessions, auth.signing_keys, auth.project to onsembl_auth;
