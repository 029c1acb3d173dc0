-- Which run of the agent's program connected last, and how often that run had tried: an earlier attempt that an instance
-- reads late, because it was stopped meanwhile, replaces no later connection.

alter table onsembl.agents
    add boot uuid,                             -- null until an agent connects that tells it
    add attempt bigint check (attempt >= 0);
