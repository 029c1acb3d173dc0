-- Whether an agent's CLI copies a conversation; agents of an earlier release do not tell.
alter table onsembl.agents add takes_forks boolean not null default true;
grant select (takes_forks) on onsembl.agents to authenticated;
