-- An instance that is about to stop takes no new agents and viewers. The others bring theirs elsewhere.

alter table onsembl.instances
    add draining_since timestamptz; -- null until the instance has been told to stop
