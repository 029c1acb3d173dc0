-- What an instance knows of its agents may wait in its memory while it cannot reach the database.

alter table onsembl.instances
    add reached_since timestamptz not null default now(); -- from then on its heartbeats have come without a gap
