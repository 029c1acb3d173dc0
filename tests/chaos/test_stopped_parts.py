"""SIGSTOP of a part that others then take for dead, and SIGCONT: what it holds and what the rows say is the same
again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest
from chaos.parts import ApiPart, Part
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.missing_guards import without
from support.server import Api

from onsembl.protocol.ids import AgentId
from onsembl.sql import agents
from onsembl.sql.database import connect

SOON = {"ONSEMBL_INSTANCE_DEAD_AFTER": "2", "ONSEMBL_DEAD_AFTER": "2"}


class Stopped:
    """An API process, a worker and an agent that ran a command, at the moment when the API is stopped and the worker
    has marked the agent offline."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def reach(self, database_url: str, folder, **environment: str) -> None:
        self._database_url = database_url
        self.api = ApiPart(folder, database_url, **SOON, **environment)
        worker = Part(folder, "worker", "worker", database_url=database_url, **SOON)
        for part in (self.api, worker):
            await part.start()
            self._stack.push_async_callback(part.stop)
        http = await self._stack.enter_async_context(httpx.AsyncClient(base_url=self.api.url, timeout=60))
        await self.api.ready(http)
        server = Api(self.api.url, database_url, http)
        self.operator = Operator(server, await server.operator())
        self.agent = await self._stack.enter_async_context(agent_running(server, folder))
        first = await self.operator.send(self.agent.id, "true")
        await self.operator.until_state(first, *FINAL)
        before = await self.row()
        assert before["status"] == "online"
        self.epoch = before["epoch"]
        self.api.freeze()
        await until(self._is_offline, "the worker marks the agent offline")
        self.api.thaw()

    async def row(self) -> dict:
        async with await connect(self._database_url, role="onsembl_api") as conn:
            row = await agents.get(conn, AgentId(self.agent.id))
        assert row is not None
        return row

    async def _is_offline(self) -> bool:
        return (await self.row())["status"] == "offline"


@pytest.mark.seconds(8)
async def test_an_instance_that_was_taken_for_dead_has_its_agents_back(database_url, tmp_path):
    """The API is stopped until a worker marks its agent offline, and goes on: the agent, whose socket was open all the
    time, is online under a new epoch, and a queued command runs."""
    async with AsyncExitStack() as stack:
        stopped = Stopped(stack)
        await stopped.reach(database_url, tmp_path)
        command = await stopped.operator.send(stopped.agent.id, "true")
        assert (await stopped.operator.until_state(command, *FINAL))["state"] == "succeeded"
        after = await call_api(stopped.operator, "GET", f"/v1/agents/{stopped.agent.id}")
        assert after["status"] == "online"
        assert (await stopped.row())["epoch"] > stopped.epoch


COMPARES_NOTHING = """
from onsembl.api.instances import instance
from onsembl.protocol.ownership import Differences

instance.differences = lambda *_: Differences()
"""


@pytest.mark.soak
async def test_without_the_comparison_its_agents_stay_offline(database_url, tmp_path):
    """Without the guard, heartbeats alone do not bring the agent back."""
    async with AsyncExitStack() as stack:
        stopped = Stopped(stack)
        await stopped.reach(database_url, tmp_path, **without(tmp_path / "guard", COMPARES_NOTHING))

        async def beats() -> bool:
            async with await connect(database_url) as conn:
                cursor = await conn.execute("select count(*) as count from instances")
                return (await cursor.fetchone())["count"] == 1

        await until(beats, "the instance's row is back")
        command = await stopped.operator.send(stopped.agent.id, "true")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await stopped.operator.until_state(command, *FINAL)
