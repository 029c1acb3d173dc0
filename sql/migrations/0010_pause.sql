-- An agent may be told to take nothing new: what runs goes on, its line waits.

alter table onsembl.agents add paused_at timestamptz;
alter table onsembl.agents add paused_by_name text;
