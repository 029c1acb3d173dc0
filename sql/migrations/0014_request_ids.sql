-- The request that a command comes from, by whose id it is found in the logs of whatever had a part in it.

alter table onsembl.commands add column request_id text check (length(request_id) between 1 and 128);
