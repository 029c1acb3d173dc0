-- A stream that cannot go on is closed, and the next one begins where its archive ends: no byte is archived twice.
alter table onsembl.archive_ends add closed boolean not null default false;

-- The stream before, and the offset in it at which this one begins. An agent that could not write the new stream's name
-- to its disk still tells the name of the one before.
alter table onsembl.streams
    add continues uuid,
    add continues_at bigint;
