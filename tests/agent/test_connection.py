"""How the connection obeys refusals and close codes. (What it carries is tested against the API itself.)"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path

import pytest
from agent.test_conversation import Heard, Server
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve

from onsembl.agent.enrolment.credentials import Credentials, load
from onsembl.agent.enrolment.enrol import CredentialsRejected, ServerUnreachable
from onsembl.agent.errors import AgentError
from onsembl.agent.link import connection as connection_module
from onsembl.agent.link.connection import AgentConnection
from onsembl.agent.link.dialogue import Conversation
from onsembl.agent.process.terminal import AgentTerminal
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.messages import AGENT_SUBPROTOCOL


class Door:
    """A server that says one thing to each who comes, and knows when they came and with which token."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        """To each in turn: an HTTP status, a close code, or 0 to stay connected. The last is for all that follow."""
        self.came: list[tuple[float, str]] = []
        self.stayed = asyncio.Event()
        self.heartbeat = 30.0
        self.retry_after: str | None = None

    def answer(self, request: object) -> int:
        return self.answers[min(len(self.came), len(self.answers)) - 1]

    async def __aenter__(self) -> Door:
        def refuse(connection: ServerConnection, request) -> object:
            self.came.append((time.monotonic(), request.headers["Authorization"].removeprefix("Bearer ")))
            status = self.answer(request)
            if not 400 <= status < 600:
                return None
            response = connection.respond(HTTPStatus(status), '{"detail": "not you"}')
            if self.retry_after is not None:
                response.headers["Retry-After"] = self.retry_after
            return response

        async def talk(websocket: ServerConnection) -> None:
            answer = self.answer(None)
            await websocket.send(Server(self.heartbeat).welcome(await websocket.recv()))
            if answer:
                await websocket.close(answer, "because")
            else:
                self.stayed.set()
            await websocket.wait_closed()

        self._server = await serve(talk, "127.0.0.1", 0, process_request=refuse, subprotocols=[AGENT_SUBPROTOCOL])
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with Door() as door:
        yield door


@pytest.fixture
def renewals(monkeypatch) -> list[str]:
    """The refresh tokens that were spent; each brings the next."""
    spent: list[str] = []

    async def refresh(credentials: Credentials) -> Credentials:
        spent.append(credentials.refresh_token)
        await asyncio.sleep(0)
        return made(credentials.server, len(spent) + 1)

    monkeypatch.setattr(connection_module, "refresh", refresh)
    return spent


@pytest.fixture
def waits(monkeypatch) -> list[int]:
    """One for each time that it would have waited before it came again."""
    asked: list[int] = []
    monkeypatch.setattr(
        connection_module, "Backoff", lambda **_: type("Steps", (), {"next_delay": lambda _: asked.append(1) or 0.0})()
    )
    return asked


def made(server: str, number: int, seconds: float = 900.0) -> Credentials:
    return Credentials(
        server=server,
        agent_id="an-id",
        name="one",
        kind="shell",
        access_token=f"access-{number}",
        access_expires_at=time.time() + seconds,
        refresh_token=f"refresh-{number}",
    )


@pytest.fixture
def connected(door: Door, tmp_path: Path) -> Callable[..., AgentConnection]:
    def connected(**options: float) -> AgentConnection:
        conversation = Conversation(AgentTerminal(80, 24), Heard())
        return AgentConnection(tmp_path / "agent", made(door.url, 1, **options), conversation)

    return connected


async def stays(connection: AgentConnection, door: Door) -> None:
    """Run until it stays connected."""
    running = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(30):
            await door.stayed.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("code", [code for code in CloseCode if code.is_permanent])
async def test_a_permanent_close_is_obeyed(door, connected, renewals, code):
    """It does not come back, and says why."""
    door.answers = [code]
    with pytest.raises(AgentError, match=rf"for good \({int(code)}\): because"):
        await connected().run()
    assert (len(door.came), renewals) == (1, [])


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_refusal_that_will_not_change_is_obeyed(door, connected, renewals, status):
    """With the server's own reason."""
    door.answers = [status]
    with pytest.raises(AgentError, match=f"{status}.*not you"):
        await connected().run()
    assert len(door.came) == 1


@pytest.mark.parametrize(
    "answer", [429, 500, 503, CloseCode.GOING_AWAY, CloseCode.INTERNAL_ERROR, CloseCode.HEARTBEAT_LOST]
)
async def test_what_may_pass_is_tried_again(door, connected, renewals, answer):
    """With the same token."""
    door.answers = [answer, answer, 0]
    await stays(connected(), door)
    assert [token for _, token in door.came] == ["access-1"] * 3
    assert renewals == []


@pytest.mark.parametrize(("header", "least"), [("7", 7.0), ("100000", 120.0), ("Fri, 31 Dec 2027 23:59:59 GMT", 0.0)])
async def test_the_server_says_when_to_come_back(door, connected, renewals, monkeypatch, header, least):
    """`Retry-After` is waited for, up to two minutes; a date is left to the backoff."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(connection_module.asyncio, "sleep", noted)
    door.answers, door.retry_after = [429, 0], header
    await stays(connected(), door)
    assert waits[0] >= least
    assert waits[0] == least or least == 0.0


async def test_a_server_that_falls_silent_is_left(door, connected, renewals):
    """After three pings with no answer there is a new connection."""
    door.answers, door.heartbeat = [0], 0.05
    connection = connected()
    running = asyncio.create_task(connection.run())
    async with asyncio.timeout(30):
        while len(door.came) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert door.came[1][0] - door.came[0][0] >= 4 * 0.05


async def test_a_transport_that_is_gone_is_a_connection_that_is_gone(door, connected, renewals, waits, monkeypatch):
    """What CPython 3.11 raises where a client aborts one that has just closed itself does not end the agent."""
    door.answers, door.heartbeat = [0], 0.05
    send = ClientConnection.send

    async def fails_at_the_pong(self: ClientConnection, frame: str | bytes) -> None:
        if len(door.came) == 1 and "ping" in str(frame):
            self.transport.close()
            raise AttributeError("'NoneType' object has no attribute 'call_soon'")
        await send(self, frame)

    monkeypatch.setattr(ClientConnection, "send", fails_at_the_pong)
    running = asyncio.create_task(connected().run())
    async with asyncio.timeout(30):
        while len(door.came) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(waits) == 1


@pytest.mark.parametrize("answer", [401, CloseCode.TOKEN_EXPIRED, CloseCode.UNAUTHENTICATED])
async def test_a_refused_token_is_renewed_at_once(door, connected, renewals, waits, tmp_path, answer):
    """The new one is on disk before it is used."""
    door.answers = [answer, 0]
    await stays(connected(), door)
    assert [token for _, token in door.came] == ["access-1", "access-2"]
    assert renewals == ["refresh-1"]
    assert waits == []
    assert load(tmp_path / "agent").refresh_token == "refresh-2"


async def test_a_server_that_refuses_every_token_is_not_flooded(door, connected, renewals, waits):
    """Only the first time is there no wait."""
    door.answers = [401, 401, 401, 401, 0]
    await stays(connected(), door)
    assert len(renewals) == 4
    assert len(waits) == 3


async def test_a_token_that_is_about_to_end_is_renewed_first(door, connected, renewals):
    """No connection is begun with it."""
    door.answers = [0]
    await stays(connected(seconds=10.0), door)
    assert [token for _, token in door.came] == ["access-2"]


async def test_an_exchange_that_has_begun_is_not_given_up(door, connected, monkeypatch, tmp_path):
    """Its answer holds the only tokens that are still good, whoever has stopped waiting for them."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def refresh(credentials: Credentials) -> Credentials:
        begun.set()
        await go.wait()
        return made(credentials.server, 2)

    monkeypatch.setattr(connection_module, "refresh", refresh)
    connection = connected(seconds=0.0)
    running = asyncio.create_task(connection.run())
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    asyncio.get_running_loop().call_soon(go.set)
    await connection.settle(10.0)
    assert load(tmp_path / "agent").refresh_token == "refresh-2"


async def test_a_refused_refresh_ends_it(door, connected, monkeypatch):
    """Only a person can enrol the agent again."""

    async def refresh(_: Credentials) -> Credentials:
        raise CredentialsRejected("The server rejects this agent: revoked")

    monkeypatch.setattr(connection_module, "refresh", refresh)
    door.answers = [401]
    with pytest.raises(AgentError, match="rejects this agent"):
        await connected().run()


async def test_a_refresh_that_cannot_be_had_now_is_tried_again(door, connected, monkeypatch):
    """The server may be restarting."""
    tries: list[int] = []

    async def refresh(credentials: Credentials) -> Credentials:
        tries.append(1)
        if len(tries) < 3:
            raise ServerUnreachable("it cannot be reached")
        return made(credentials.server, 2)

    monkeypatch.setattr(connection_module, "refresh", refresh)
    door.answers = [0]
    await stays(connected(seconds=0.0), door)
    assert len(tries) == 3
