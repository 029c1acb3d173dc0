-- The rows that `onsembl supabase check` adds and removes, to find out whether Realtime delivers a change. Nobody sees
-- them but the user of the check, who exists for a few seconds.
create table onsembl.realtime_probes (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    at timestamptz not null default now()
);
alter table onsembl.realtime_probes enable row level security;
create policy operators_read on onsembl.realtime_probes for select to authenticated
    using (user_id = (select auth.uid()));
grant select (id, user_id) on onsembl.realtime_probes to authenticated;

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table onsembl.realtime_probes;
    end if;
end
$$;
