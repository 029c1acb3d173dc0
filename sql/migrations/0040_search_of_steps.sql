-- Steps are searched by their title, text and result, together with the output. Only steps that have ended are in the
-- index, so that each is indexed once and not with every revision.

create index steps_by_time on onsembl.steps (started_at desc, command_id desc, number desc);

do $$
declare
    place text;
begin
    select nspname into place from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
    where extname = 'pg_trgm';
    if place is not null then
        execute format(
            'create index steps_trigrams on onsembl.steps
             using gin ((title || E''\n'' || text || E''\n'' || result) %I.gin_trgm_ops) where ended_at is not null',
            place);
    end if;
end
$$;
