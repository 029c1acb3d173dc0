-- Operators' browsers read an agent's problem by Realtime, as the REST API shows it.
grant select (problem, problem_since) on onsembl.agents to authenticated;
