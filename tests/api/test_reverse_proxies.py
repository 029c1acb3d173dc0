"""Two instances behind nginx and Caddy, with the configurations of the documentation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx
import pytest
from support.frames import HELLO, attach, next_message
from support.reverse_proxies import reverse_proxy
from support.server import PATIENCE, Api, Enrolled, running
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from onsembl.protocol.attachments import MAX_ATTACHMENT_BYTES
from onsembl.protocol.close_codes import CloseCode
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

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def agent_socket(self, agent: Enrolled) -> connect:
        return connect(
            self.url.replace("http", "ws") + "/v1/agent",
            additional_headers={"Authorization": f"Bearer {agent.access_token}"},
            subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=PATIENCE,
        )

    async def see(self, agent: Enrolled, wanted: bytes) -> None:
        """Attach until these bytes come."""
        while True:
            async with connect(
                self.url.replace("http", "ws") + f"/v1/agents/{agent.id}/terminal",
                subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
                compression=None,
                open_timeout=PATIENCE,
            ) as viewer:
                try:
                    await attach(viewer, self.token)
                    seen = b""
                    while wanted not in seen:
                        frame = await viewer.recv()
                        seen += frame if isinstance(frame, bytes) else b""
                except ConnectionClosed as closed:
                    assert closed.rcvd is not None and closed.rcvd.code == CloseCode.ELSEWHERE
                    continue
                return


@pytest.fixture(params=["nginx", "caddy"])
async def center(request, settings, tmp_path) -> AsyncGenerator[Center]:
    first, second = (
        replace(
            settings, public_url="http://onsembl.example", address=f"instance-{number}", client_address_header=HEADER
        )
        for number in (1, 2)
    )
    async with AsyncExitStack() as stack:
        second_stack = await stack.enter_async_context(AsyncExitStack())
        instances = (
            await stack.enter_async_context(running(first)),
            await second_stack.enter_async_context(running(second)),
        )
        urls = [instance.url for instance in instances]
        url = await stack.enter_async_context(reverse_proxy(request.param, tmp_path / request.param, urls))
        account = await instances[0].operator()
        yield Center(instances, url, account.access_token, second_stack)


async def test_viewers_come_to_their_agents(center: Center):
    """Agents and viewers connect through the proxy, and each viewer sees its agent's bytes, at the
    latest after some attempts."""
    async with AsyncExitStack() as stack:
        for number in range(AGENTS):
            agent = await center.instances[0].enrol(f"agent-{number}")
            socket = await stack.enter_async_context(center.agent_socket(agent))
            await socket.send(json.dumps({**HELLO, "stream": None}))
            await next_message(socket, "welcome")
            await socket.send(encode_output(0, b"hello from %d" % number))
            await center.see(agent, b"hello from %d" % number)
        held = Counter(len(instance.services.hub.links) for instance in center.instances)
        assert sum(count * times for count, times in held.items()) == AGENTS


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
