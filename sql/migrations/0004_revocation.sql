-- Operators and agents can be shut out while they are here; agents' signing keys can be changed while they are in use.

-- An operator who was disabled here sees nothing from then on, whatever their token still says. Definer's rights: a
-- browser's role may not read the table of operators.
create or replace function onsembl.is_operator() returns boolean
    language sql stable security definer set search_path = ''
    return coalesce(auth.jwt() -> 'app_metadata' ->> 'role', '') in ('viewer', 'operator', 'admin')
        and not exists (select from onsembl.operators where id = auth.uid() and disabled_at is not null);

revoke execute on function onsembl.is_operator() from public;
grant execute on function onsembl.is_operator() to authenticated, onsembl_api;

-- Asked once a statement, not once a row.
alter policy operators_read on onsembl.agents using ((select onsembl.is_operator()));
alter policy operators_read on onsembl.alerts using ((select onsembl.is_operator()));
alter policy operators_read on onsembl.commands using ((select onsembl.is_operator()));
alter policy operators_read on onsembl.streams using ((select onsembl.is_operator()));

-- How long the tokens live that a key signs, as the longest of the instances that use it has said. A key that was
-- replaced verifies until the last of its tokens has ended: `retired_at` may lie ahead.
alter table onsembl.signing_keys add token_seconds double precision not null default 900;

-- Access tokens that were issued before are not taken any more: somebody else may hold one.
alter table onsembl.agents add tokens_after timestamptz;
