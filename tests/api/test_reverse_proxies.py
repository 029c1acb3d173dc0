"""Two instances behind nginx and Caddy, with the configurations of the documentation."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from uuid import uuid4

import httpx
import pytest
from support.agents import until
from support.frames import attach, greet, next_message, read_bytes
from support.moving_agents import FollowingViewer
from support.reverse_proxies import REVERSE_PROXIES, reverse_proxy
from support.server import PATIENCE, Api, Enrolled, running
from websockets.asyncio.client import connect

from onsembl.protocol.attachments import MAX_ATTACHMENT_BYTES
from onsembl.protocol.messages import AGENT_SUBPROTOCOL, TERMINAL_SUBPROTOCOL, encode_output
from onsembl.sql.database import connect as connect_database

pytestmark = [pytest.mark.no_worker, pytest.mark.package]
AGENTS = 6
HEADER = "X-Forwarded-For"
CLIENT = "127.0.0.77"
"""The address from which the clients come: the proxy's own is another one."""


@dataclass
class Center:
    """Two instances, the proxy before them, and an operator."""

    instances: tuple[Api, Api]
    url: str
    token: str
    second: AsyncExitStack
    """Stops the second instance."""
    by_path: bool
    """Whether an agent and its viewers come to the same instance."""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def agent_socket(self, agent: Enrolled) -> connect:
        return connect(
            self.url.replace("http", "ws") + f"/v1/agents/{agent.id}/connection",
            additional_headers={"Authorization": f"Bearer {agent.access_token}"},
            subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=PATIENCE,
        )

    def terminal_socket(self, agent: Enrolled) -> connect:
        return connect(
            self.url.replace("http", "ws") + f"/v1/agents/{agent.id}/terminal",
            subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=PATIENCE,
        )


@pytest.fixture(params=REVERSE_PROXIES)
async def center(request, settings, tmp_path) -> AsyncGenerator[Center]:
    settings = replace(settings, public_url="http://onsembl.example", client_address_header=HEADER)
    async with AsyncExitStack() as stack:
        second_stack = await stack.enter_async_context(AsyncExitStack())
        instances = (
            await stack.enter_async_context(running(settings, reachable=True)),
            await second_stack.enter_async_context(running(settings, reachable=True)),
        )
        urls = [instance.url for instance in instances]
        url = await stack.enter_async_context(reverse_proxy(request.param, tmp_path / "proxy", urls))
        account = await instances[0].operator()
        yield Center(instances, url, account.access_token, second_stack, request.param.endswith("by path"))


async def test_viewers_come_to_their_agents(center: Center):
    """Each viewer sees its agent's bytes, and types; where the proxy chooses by the path, nothing is relayed."""
    async with AsyncExitStack() as stack:
        for number in range(AGENTS):
            agent = await center.instances[0].enrol(f"agent-{number}")
            socket = await stack.enter_async_context(center.agent_socket(agent))
            await greet(socket)
            await socket.send(encode_output(0, b"hello"))
            viewer = await stack.enter_async_context(center.terminal_socket(agent))
            operator = {"client_id": str(uuid4())}
            await attach(viewer, center.token, **operator)
            assert await read_bytes(viewer, 5) == b"hello"
            await viewer.send(json.dumps({"type": "take_control", **operator}))
            await next_message(viewer, "controlled")
            await viewer.send(json.dumps({"type": "keys", **operator, "seq": 1, "text": "ls\r"}))
            assert (await next_message(socket, "keys"))["text"] == "ls\r"
        relaying = [instance.services.relays.connections for instance in center.instances]
        assert (relaying == [0, 0]) == center.by_path


async def test_viewers_follow_an_agent_that_moves(center: Center):
    """An agent's viewers go on with the next byte when it connects to one instance, and then to the other."""
    agent = await center.instances[0].enrol()
    viewers = [FollowingViewer(center.url, agent.id, center.token) for _ in range(4)]
    output, stream = b"", {}
    try:
        for instance in (*center.instances, *center.instances):
            async with instance.agent_socket(agent) as socket:
                welcome = await greet(socket, **stream)
                output += b"and more of it "
                stream = {"id": welcome["stream_id"], "start": 0, "end": len(output)}
                await socket.send(encode_output(welcome["resume_offset"], output[welcome["resume_offset"] :]))

                async def seen(end: int = len(output)) -> bool:
                    return all(viewer.start + len(viewer.seen) == end for viewer in viewers)

                await until(seen, "all viewers have seen it")
        for viewer in viewers:
            assert (bytes(viewer.seen), viewer.faults) == (output[viewer.start :], [])
    finally:
        for viewer in viewers:
            await viewer.leave()


async def test_requests_pass_as_they_are(center: Center):
    """An event comes at once though the answer goes on; an attachment of the largest size is taken, a larger body is
    not; the audit log has the client's address, whatever the client says."""
    transport = httpx.AsyncHTTPTransport(local_address=CLIENT)
    async with httpx.AsyncClient(base_url=center.url, transport=transport, timeout=PATIENCE) as http:
        async with http.stream(
            "GET", "/v1/events", headers={**center.headers, "Accept": "text/event-stream"}
        ) as stream:
            lines = stream.aiter_lines()
            assert stream.status_code == 200
            async with await connect_database(center.instances[0].database_url, role="onsembl_api") as conn:
                await conn.execute("insert into halts (seconds, requested_by_name) values (1, 'ann')")
            while not (line := await anext(lines)).startswith("event:"):
                pass
            assert "halt" in line
        for size, statuses in ((MAX_ATTACHMENT_BYTES, {201}), (2**24, {413, 502})):
            sent = await http.post(
                "/v1/attachments", params={"name": "a.bin"}, content=bytes(size), headers=center.headers
            )
            assert sent.status_code in statuses, sent.text
        answer = await http.get("/v1/agents", headers={"Authorization": "Bearer none", HEADER: "6.6.6.6"})
        assert answer.status_code == 401
    for instance in center.instances:
        await instance.services.rejections.write()
    async with await connect_database(center.instances[0].database_url) as conn:
        cursor = await conn.execute("select address from onsembl.audit where action = 'request.refused'")
        assert {row["address"] for row in await cursor.fetchall()} == {CLIENT}


async def test_one_instance_is_enough(center: Center):
    """While one instance is away, every request is answered by the other."""
    await center.second.aclose()
    async with httpx.AsyncClient(base_url=center.url, timeout=PATIENCE) as http:
        for _ in range(10):
            assert (await http.get("/readyz")).status_code == 200
