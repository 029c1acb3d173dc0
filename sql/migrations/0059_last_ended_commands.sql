-- The last command of an agent that has ended, found without reading the commands that wait behind it.

create index commands_ended on onsembl.commands (agent_id, ended_at desc, seq desc) where ended_at is not null;
