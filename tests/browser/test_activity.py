"""What each agent does, in the list of agents."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from support.agents import Operator
from support.api_calls import call_api
from support.asking_agents import running
from support.expecting import expect
from support.server import Api
from support.silent_agents import falls_silent, had_a_turn

from onsembl.protocol.ids import AgentId
from onsembl.sql.database import connect


@pytest.mark.no_worker
async def test_the_list_says_what_each_agent_does(center: Api, visit) -> None:
    """An agent is idle, working, waiting, halted, paused and offline as the server says; one that works and is silent
    for longer than usual is marked, with the step that it is at."""
    operator = Operator(center, await center.operator())
    async with running(center, operator) as agent:
        agent_id = AgentId(UUID(agent.agent.id))
        visitor = await visit(center.url)
        await visitor.come_back("admin@example.org")

        async def does(activity: str) -> None:
            await expect(visitor.page.locator(f'[data-agent="one"][data-activity="{activity}"]')).to_be_visible()
            row = await call_api(operator, "GET", f"/v1/agents/{agent.agent.id}")
            assert row["activity"]["name"] == activity

        await does("working")
        async with await connect(center.database_url, role="onsembl_api") as conn:
            await had_a_turn(conn, agent_id, [10] * 20)
            await falls_silent(conn, agent_id, 600)
        silent = visitor.page.locator('[data-agent="one"]').get_by_text("silent", exact=True)
        await expect(silent).to_have_attribute("title", re.compile(r"usually at most 10 s; at: npm test$"))
        await agent.ask()
        await does("waiting")
        await call_api(operator, "POST", "/v1/halt", {}, 202)
        await does("halted")
        await agent.end()
        await call_api(operator, "DELETE", "/v1/halt")
        await does("idle")
        await call_api(operator, "POST", f"/v1/agents/{agent.agent.id}/pause")
        await does("paused")
    await does("offline")
