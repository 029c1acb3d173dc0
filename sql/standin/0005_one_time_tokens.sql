-- Links that are sent by e-mail, and the codes for which a browser exchanges them (PKCE). Only their hashes are stored.
create table auth.one_time_tokens (
    token_hash bytea primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    kind text not null check (kind in ('magiclink', 'recovery', 'code')),
    code_challenge text,                         -- null: the holder of the token needs no verifier
    code_challenge_method text check (code_challenge_method in ('s256', 'plain')),
    expires_at timestamptz not null,
    check ((code_challenge is null) = (code_challenge_method is null))
);
create index on auth.one_time_tokens (user_id);
create index on auth.one_time_tokens (expires_at);

alter table auth.one_time_tokens enable row level security;
create policy auth_service on auth.one_time_tokens to onsembl_auth using (true) with check (true);
grant select, insert, update, delete on auth.one_time_tokens to onsembl_auth;

-- How the session began, for the claim `amr` of its tokens.
alter table auth.sessions add column method text not null default 'password' check (method in ('password', 'otp'));
