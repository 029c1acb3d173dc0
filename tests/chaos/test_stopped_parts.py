"""SIGSTOP of a part that others then take for dead, and SIGCONT: what it holds and what the rows say is the same
again."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import httpx
import pytest
from chaos.parts import PUBLIC_URL, ApiPart, ChaosViewer, Part, reachable_part
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.frames import HELLO, HELLO_TEXT, attach, close_code, greet, next_message
from support.missing_guards import without
from support.server import Api, running

from onsembl.api.settings import Settings
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import encode_output
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


async def test_an_owner_that_was_stopped_feeds_no_viewer(database_url, tmp_path):
    """The agent of a viewer at another instance connects elsewhere while its instance is stopped: the viewer goes on
    there, and gets nothing of what the old connection brings once that instance goes on."""
    settings = Settings(database_url=database_url, public_url=PUBLIC_URL, worker=None)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running(settings, reachable=True))
        three = await stack.enter_async_context(running(settings, reachable=True))
        part, two = await reachable_part(stack, database_url, tmp_path)
        operator, agent = await one.operator(), await one.enrol("stopped")

        old = await stack.enter_async_context(two.agent_socket(agent))
        await old.send(HELLO_TEXT)
        stream = (await next_message(old, "welcome"))["stream_id"]
        await old.send(encode_output(0, b"first "))
        viewer = await stack.enter_async_context(one.terminal_socket(agent.id))
        await attach(viewer, operator.access_token)
        seen = await read_until(viewer, b"first ")
        part.freeze()
        try:
            new = await stack.enter_async_context(three.agent_socket(agent))
            await new.send(json.dumps({**HELLO, "stream": {"id": stream, "start": 0, "end": 13}}))
            at = (await next_message(new, "welcome"))["resume_offset"]
            await new.send(encode_output(at, b"first second "[at:]))
            seen += await read_until(viewer, b"second ")
            await old.send(encode_output(6, b"stale stale stale"))
        finally:
            part.thaw()
        assert await close_code(old) == CloseCode.SUPERSEDED
        await new.send(encode_output(13, b"third"))
        seen += await read_until(viewer, b"third")
        assert seen == b"first second third"


RING_BYTES = 256 * 1024
BEGIN, END = b"first ", b" last"


async def test_a_relaying_instance_that_was_stopped_goes_on(database_url, tmp_path, monkeypatch):
    """The instance of some viewers is stopped while more bytes come than the ring holds: the agent's instance lets go
    of it, the other viewers, here and at a third instance, get every byte meanwhile, and its own when it goes on."""
    settings = Settings(database_url=database_url, public_url=PUBLIC_URL, worker=None, heartbeat=600)
    monkeypatch.setattr("onsembl.api.instances.relay_connection.PING_SECONDS", 0.2)  # of the third instance
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(running(settings, reachable=True))
        third = await stack.enter_async_context(running(settings, reachable=True))
        part, relaying = await reachable_part(stack, database_url, tmp_path)
        monkeypatch.setattr(owner.services.hub, "ring_bytes", RING_BYTES)
        relays = owner.services.relays
        operator, agent = await owner.operator(), await owner.enrol("watched")
        socket = await stack.enter_async_context(owner.agent_socket(agent))
        await greet(socket)
        await socket.send(encode_output(0, BEGIN))
        near, elsewhere, *stopped = [
            ChaosViewer(api, agent.id, operator.access_token, wanted=END) for api in (owner, third, relaying, relaying)
        ]
        viewers = [near, elsewhere, *stopped]
        for viewer in viewers:
            stack.push_async_callback(viewer.leave)

        async def seen_by(viewers: list[ChaosViewer], upto: int) -> None:
            async def have_seen() -> bool:
                return all(viewer.offset >= upto for viewer in viewers)

            await until(have_seen, f"the viewers have {upto} bytes")

        await seen_by(viewers, len(BEGIN))
        assert len(relays.served) == 2
        written = BEGIN
        part.freeze()
        try:
            monkeypatch.setattr("onsembl.api.instances.relay_socket.PING_SECONDS", 0.2)
            while len(written) < 4 * RING_BYTES:
                data = bytes(range(251)) * 250
                await socket.send(encode_output(len(written), data))
                written += data
                await seen_by([near, elsewhere], len(written))

            async def let_go() -> bool:
                return len(relays.served) == 1

            await until(let_go, "the agent's instance lets go of the stopped one")
            await socket.send(encode_output(len(written), END))
            written += END
            await seen_by([near, elsewhere], len(written))
        finally:
            monkeypatch.setattr("onsembl.api.instances.relay_socket.PING_SECONDS", 600.0)
            part.thaw()
        async with asyncio.timeout(120):
            await asyncio.gather(*(viewer.task for viewer in viewers))
        assert [viewer.faults for viewer in viewers] == [[]] * 4
        assert all(viewer.present[1:] == (0, written) for viewer in viewers)


async def read_until(socket, mark: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(60):
        while mark not in seen:
            frame = await socket.recv()
            seen += frame if isinstance(frame, bytes) else b""
    return seen
