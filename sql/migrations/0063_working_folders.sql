-- The folder in which an agent's commands run, and its git branch, as the agent tells them.
alter table onsembl.agents
    add folder text not null default '',
    add branch text;                        -- null outside of git, and for agents that do not tell

grant select (folder, branch) on onsembl.agents to authenticated;
