"""What agents do, as their rows say it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest
from support.silent_agents import ANN, falls_silent, had_a_turn

from onsembl.fleet.activities import figures, present
from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.activity import AgentActivity
from onsembl.protocol.ids import AgentId
from onsembl.sql import agents
from onsembl.sql.database import Connection, Pool, create_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[Pool]:
    async with create_pool(database_url, role="onsembl_api", min_size=1, max_size=2) as pool:
        yield pool


async def working_agent(conn: Connection, pauses: list[int]) -> AgentId:
    """An agent that works, whose last turn had these pauses, in seconds."""
    row = await agents.create(conn, name="one", kind="claude", mode="exec", host="", platform="")
    assert row is not None
    agent_id = AgentId(row["id"])
    await conn.execute("update agents set status = 'online'")
    await had_a_turn(conn, agent_id, pauses)
    assert (await send(conn, CommandContent(text="work"), agent_id, ANN)).command is not None
    await conn.execute("update commands set state = 'running' where ended_at is null")
    return agent_id


async def test_an_unusual_silence_is_told(pool):
    """A working agent that is silent for longer than its usual pauses is told so, with the step that it is at; while it
    waits for a person, and where too little is known, it is not."""
    async with pool.connection() as conn:
        agent_id = await working_agent(conn, [100] * 19 + [500])
        for seconds, unusual in [(0, False), (59, False), (90, False), (110, True)]:
            await falls_silent(conn, agent_id, seconds)
            now = (await present(conn))[agent_id]
            assert now.activity.name is AgentActivity.WORKING
            assert (now.silence is not None) is unusual, seconds
        assert now.silence is not None
        assert (now.silence.usual_seconds, now.silence.doing) == (100, "npm test")
        assert now.silence.doing_since is not None and now.silence.since > now.silence.doing_since
        insert = """insert into attention
                (id, agent_id, command_id, kind, title, body, digest, asked_at, closed_at, state)
            select gen_random_uuid(), agent_id, id, 'idle', 'x', '{}', repeat('0', 64), now() - interval '1 h',
                case when state = 'running' then null else now() end,
                case when state = 'running' then 'open' else 'withdrawn' end
            from commands where state = %s"""
        await conn.execute(insert.encode(), ["running"])
        now = (await present(conn, [agent_id]))[agent_id]
        assert (now.activity.name, now.activity.waiting, now.silence) == (AgentActivity.WAITING, 1, None)
        counted = await figures(conn)
        assert counted.agents == {AgentActivity.WAITING: 1}
        assert (counted.waiting, counted.oldest) == (1, 3600)
        await conn.execute("delete from attention")
        await conn.execute(insert.encode(), ["succeeded"])
        assert (await present(conn))[agent_id].silence is None, "all its pauses were waits"


async def test_an_agent_without_turns_is_never_silent(pool):
    """Nothing is usual for an agent with too few pauses."""
    async with pool.connection() as conn:
        agent_id = await working_agent(conn, [1] * 18)
        await falls_silent(conn, agent_id, 3600)
        now = (await present(conn))[agent_id]
        assert (now.activity.name, now.silence) == (AgentActivity.WORKING, None)
        assert await present(conn, [AgentId(uuid4())]) == {}
        assert (await figures(conn)).oldest == 0
