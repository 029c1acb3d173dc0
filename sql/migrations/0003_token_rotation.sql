-- Refresh tokens know what they came from: an answer that was lost on its way can be given again, and a token that
-- comes back later than that is known to be stolen.

alter table onsembl.refresh_tokens
    add parent_hash bytea,                      -- the token that was exchanged for this one
    add superseded_at timestamptz;              -- given again as another token, because this one never arrived

create index on onsembl.refresh_tokens (parent_hash);

-- What an operator should look at.
create table onsembl.alerts (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    kind text not null check (kind in ('refresh_token_reused')),
    agent_id uuid references onsembl.agents (id) on delete cascade,
    text text not null,
    acknowledged_at timestamptz,
    acknowledged_by uuid
);
alter table onsembl.alerts enable row level security;
create policy api on onsembl.alerts to onsembl_api using (true) with check (true);
create policy operators_read on onsembl.alerts for select to authenticated using (onsembl.is_operator());
grant select, insert, update on onsembl.alerts to onsembl_api;
grant select on onsembl.alerts to authenticated;
alter publication supabase_realtime add table onsembl.alerts;
