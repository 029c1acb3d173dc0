"""SQL that inserts a row into each table that Realtime publishes."""

PUBLISHED_ROWS = """
    insert into onsembl.agents (name, kind, labels, limits) values ('one', 'shell', '{gpu}', '{"work_seconds": 5}');
    insert into onsembl.alerts (kind, text) values ('refresh_token_reused', 'x');
    insert into onsembl.halts (seconds, reason) values (2, 'fire');
    insert into onsembl.halt_agents (halt_id, agent_id, state, pids)
        select h.id, a.id, 'dying', '{7, 8}' from onsembl.halts h, onsembl.agents a;
    insert into onsembl.schedules (name, target, text, at, updated_by, updated_by_name)
        values ('nightly', '{"all": true}', 'ls', '2100-01-01 00:00:00.5+00', gen_random_uuid(), 'ann');
    insert into onsembl.conversations (agent_id, cli_id, title) select id, 'c', 'title' from onsembl.agents;
    insert into onsembl.device_requests
        (device_hash, user_code, name, kind, mode, host, platform, address, expires_at, poll_seconds)
        values ('x', 'BCDFGHJK', 'two', 'shell', 'exec', 'host', 'linux', '::1', now() + interval '1 hour', 5);
    insert into onsembl.commands (agent_id, text, requested_by_name, tags)
        select id, 'ls', 'ann', '{nightly}' from onsembl.agents;
    insert into onsembl.steps
        (at, command_id, number, changed, revision, kind, name, title, status, text, result, text_omitted,
         result_omitted, denied, started_at, output_start, output_end)
        select created_at, id, 1, 1, 1, 'message', '', 'Hello', 'completed', 'x', 'y', 0, 0, false, now(), 0, 0
        from onsembl.commands;
    insert into onsembl.turn_progress (command_id, agent_id, steps, number, kind, name, title, status, changed)
        select id, agent_id, 1, 1, 'message', '', 'Hello', 'completed', 1 from onsembl.commands;
    insert into onsembl.attention (id, agent_id, command_id, kind, title, body, digest)
        select gen_random_uuid(), agent_id, id, 'plan', 'Hello', '{"kind": "plan", "plan": "x"}', repeat('0', 64)
        from onsembl.commands;
    insert into onsembl.reports (command_id, agent_id, version, title, severities, report, text, text_omitted)
        select id, agent_id, 1, 'Hello', '{"low": 1}', '{"title": "Hello", "summary": "x"}', '{}', 0
        from onsembl.commands;
"""
