-- A user with a verified second factor is an operator only in a session that was begun with it (Supabase's `aal2`).

-- The body is text, so that it depends on no table of Supabase Auth, and Supabase can change its own. The built-in
-- Supabase has no second factors.
create function onsembl.is_assured() returns boolean
    language plpgsql stable security definer set search_path = '' as
$$
begin
    if auth.jwt() ->> 'aal' = 'aal2' or to_regclass('auth.mfa_factors') is null then
        return true;
    end if;
    return not exists (select from auth.mfa_factors where user_id = auth.uid() and status::text = 'verified');
end
$$;
revoke execute on function onsembl.is_assured() from public;

create or replace function onsembl.is_operator() returns boolean
    language sql stable security definer set search_path = ''
    return coalesce(onsembl.operator_role(), '') in ('viewer', 'operator', 'admin')
        and not exists (select from onsembl.operators where id = auth.uid() and disabled_at is not null)
        and onsembl.is_assured();
