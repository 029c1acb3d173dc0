"""How the connection reacts to rejections and close codes. (Its messages are tested against the API itself.)"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import pytest
from agent.test_session import Handler, Server
from support.agents import until
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve

from onsembl.agent.enrolment.credentials import FILE_NAME, Credentials, load
from onsembl.agent.errors import AgentError
from onsembl.agent.link import connection as connection_module
from onsembl.agent.link.connection import AgentConnection
from onsembl.agent.link.session import ServerSession
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.drain import DRAINING_PROBLEM
from onsembl.protocol.messages import AGENT_SUBPROTOCOL, Offer, encode


class FakeServer:
    """A server that answers each connection in one way, and records when it came and with which token."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        """For each connection: an HTTP status, a close code, or 0 to stay connected. The last is for all later ones."""
        self.connections: list[tuple[float, str]] = []
        self.paths: list[str] = []
        """The path of each connection."""
        self.stayed = asyncio.Event()
        self.heartbeat = 30.0
        self.version: str | None = None
        self.retry_after: str | None = None
        self.offers = False
        """Whether it offers a command."""
        self.left: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        """The close code and the reason of each agent that left."""
        self.body: str | None = None
        """The text of a refusal; None for a problem document of the server's."""

    @staticmethod
    def content(status: int) -> str:
        """The problem document of a refusal."""
        return f'{{"status":{status},"detail":"not you"}}'

    def answer(self, request: object) -> int:
        return self.answers[min(len(self.connections), len(self.answers)) - 1]

    async def __aenter__(self) -> FakeServer:
        def reject(connection: ServerConnection, request) -> object:
            self.connections.append((time.monotonic(), request.headers["Authorization"].removeprefix("Bearer ")))
            self.paths.append(request.path)
            status = self.answer(request)
            if not 400 <= status < 600:
                return None
            response = connection.respond(HTTPStatus(status), self.body or self.content(status))
            if self.body is None:
                del response.headers["Content-Type"]
                response.headers["Content-Type"] = "application/problem+json"
            if self.retry_after is not None:
                response.headers["Retry-After"] = self.retry_after
            return response

        async def talk(websocket: ServerConnection) -> None:
            answer = self.answer(None)
            welcoming = Server(self.heartbeat)
            welcoming.version = self.version
            await websocket.send(welcoming.welcome(await websocket.recv()))
            if answer:
                await websocket.close(answer, "because")
            else:
                self.stayed.set()
            if self.offers:
                await websocket.send(encode(Offer(command_id=uuid4(), text="ls")))
            await websocket.wait_closed()
            if websocket.close_code is not None:
                self.left.put_nowait((websocket.close_code, websocket.close_reason or ""))

        self._server = await serve(talk, "127.0.0.1", 0, process_request=reject, subprotocols=[AGENT_SUBPROTOCOL])
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
def refreshes(monkeypatch) -> list[str]:
    """The refresh tokens that were used; each is exchanged for the next."""
    spent: list[str] = []

    async def refresh(credentials: Credentials) -> Credentials:
        spent.append(credentials.refresh_token)
        await asyncio.sleep(0)
        return made(credentials.server, len(spent) + 1)

    monkeypatch.setattr(connection_module, "refresh", refresh)
    return spent


@pytest.fixture
def waits(monkeypatch) -> list[int]:
    """One entry for each delay before a reconnect."""
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
def connected(server: FakeServer, terminal: AgentTerminal, tmp_path: Path) -> Callable[..., AgentConnection]:
    def connected(**options: float) -> AgentConnection:
        session = ServerSession(terminal, Handler())
        return AgentConnection(tmp_path / "agent", made(server.url, 1, **options), session)

    return connected


async def stays(connection: AgentConnection, server: FakeServer) -> None:
    """Run the connection until it stays connected."""
    running = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(30):
            await server.stayed.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("code", [code for code in CloseCode if code.is_permanent])
async def test_a_permanent_close_ends_the_agent(server, connected, refreshes, code):
    """It does not reconnect, and the error has the reason."""
    server.answers = [code]
    with pytest.raises(AgentError, match=rf"for good \({int(code)}\): because"):
        await connected().run()
    assert (len(server.connections), refreshes) == (1, [])


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_permanent_rejection_ends_the_agent(server, connected, refreshes, status):
    """The error has the server's own reason."""
    server.answers = [status]
    with pytest.raises(AgentError, match=f"{status}.*not you"):
        await connected().run()
    assert len(server.connections) == 1


@pytest.mark.parametrize("body", ["<html>404 Not Found</html>", '{"detail":"nothing here"}', "[" * 3000])
async def test_a_refusal_of_something_in_between_is_retried(server, connected, refreshes, waits, body):
    """A proxy or a portal may answer for a while; the token stays as it is."""
    server.answers, server.body = [400, 401, 403, 404, 0], body
    await stays(connected(), server)
    assert [token for _, token in server.connections] == ["access-1"] * 5
    assert refreshes == []


async def test_the_path_has_the_agents_id_where_the_server_knows_it(server, connected, refreshes, waits):
    """A server of an earlier release refuses it without a word: then the path is the one for all agents."""
    server.answers, server.body = [503, 403, 503, 404, 0], " "
    await stays(connected(), server)
    own, common = "/v1/agents/an-id/connection", "/v1/agent"
    assert server.paths == [own, own, common, common, own]


@pytest.mark.parametrize(
    "answer", [429, 500, 503, CloseCode.GOING_AWAY, CloseCode.INTERNAL_ERROR, CloseCode.HEARTBEAT_LOST]
)
async def test_a_temporary_failure_is_retried(server, connected, refreshes, answer):
    """It reconnects with the same token."""
    server.answers = [answer, answer, 0]
    await stays(connected(), server)
    assert [token for _, token in server.connections] == ["access-1"] * 3
    assert refreshes == []


@pytest.mark.parametrize(("version", "told"), [("9.9", 1), ("1", 0), (None, 0)])
async def test_an_agent_of_another_release_says_so_once(server, connected, caplog, version, told):
    """Its log names both releases, once for each release of the server."""
    server.version, server.answers = version, [CloseCode.DRAINING, CloseCode.DRAINING, 0]
    await stays(connected(), server)
    records = [record for record in caplog.records if getattr(record, "action", "") == "other_release"]
    assert len(records) == told
    assert all("9.9" in record.getMessage() for record in records)


DRAINING_BODY = f'{{"status":503,"detail":"about to stop","type":"{DRAINING_PROBLEM}"}}'


@pytest.mark.parametrize("answer", [503, CloseCode.DRAINING])
async def test_an_agent_that_is_told_to_move_connects_at_once(server, connected, refreshes, waits, monkeypatch, answer):
    """An instance that is about to stop sends it away: it tries again without a delay, but not for ever."""
    monkeypatch.setattr(FakeServer, "content", staticmethod(lambda _: DRAINING_BODY))
    server.answers = [answer, answer, answer, 0] if answer == 503 else [answer, 0]
    await stays(connected(), server)
    assert waits == []
    server.stayed.clear()
    server.connections.clear()
    server.answers = [503] * 6 + [0]
    await stays(connected(), server)
    assert len(waits) == 3
    assert {token for _, token in server.connections} == {"access-1"}


@pytest.mark.parametrize(("header", "least"), [("7", 7.0), ("100000", 120.0), ("Fri, 31 Dec 2027 23:59:59 GMT", 0.0)])
async def test_retry_after_is_respected(server, connected, refreshes, monkeypatch, header, least):
    """It waits as long as `Retry-After` says, up to two minutes; a date is ignored."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(connection_module.asyncio, "sleep", noted)
    server.answers, server.retry_after = [429, 0], header
    await stays(connected(), server)
    assert waits[0] >= least
    assert waits[0] == least or least == 0.0


async def test_an_agent_with_a_problem_leaves_a_server_that_does_not_take_it(server, terminal, monkeypatch, tmp_path):
    """A server of an earlier release fails commands that are not accepted: the agent is offline until there is room."""
    monkeypatch.setattr(connection_module, "ROOM_SECONDS", 0.01)
    handler = Handler()
    handler.problem = "The agent cannot write its journal: full"
    server.answers, server.offers = [0], True
    running = asyncio.create_task(
        AgentConnection(tmp_path / "agent", made(server.url, 1), ServerSession(terminal, handler)).run()
    )
    async with asyncio.timeout(30):
        assert await server.left.get() == (CloseCode.NORMAL, "The agent cannot write its journal: full")
        tries: list[float] = []
        sleep = asyncio.sleep

        async def noted(seconds: float) -> None:
            tries.append(seconds)
            await sleep(0)

        with monkeypatch.context() as patch:
            patch.setattr(connection_module.asyncio, "sleep", noted)
            while len(tries) < 5:
                await sleep(0)
        assert len(server.connections) == 1
        handler.problem = None
        while not handler.calls:
            await asyncio.sleep(0.01)
    assert len(server.connections) == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_silent_server_is_given_up(server, connected, refreshes):
    """After three pings without an answer there is a new connection."""
    server.answers, server.heartbeat = [0], 0.05
    connection = connected()
    running = asyncio.create_task(connection.run())
    async with asyncio.timeout(30):
        while len(server.connections) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert server.connections[1][0] - server.connections[0][0] >= 4 * 0.05


async def test_a_closed_transport_is_a_lost_connection(server, connected, refreshes, waits, monkeypatch):
    """The AttributeError that CPython 3.11 raises when a client aborts a closed transport does not end the agent."""
    server.answers, server.heartbeat = [0], 0.05
    send = ClientConnection.send

    async def fails_at_the_pong(self: ClientConnection, frame: str | bytes) -> None:
        if len(server.connections) == 1 and "ping" in str(frame):
            self.transport.close()
            raise AttributeError("'NoneType' object has no attribute 'call_soon'")
        await send(self, frame)

    monkeypatch.setattr(ClientConnection, "send", fails_at_the_pong)
    running = asyncio.create_task(connected().run())
    async with asyncio.timeout(30):
        while len(server.connections) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(waits) == 1


@pytest.mark.parametrize("answer", [401, CloseCode.TOKEN_EXPIRED, CloseCode.UNAUTHENTICATED])
async def test_a_rejected_token_is_refreshed_at_once(server, connected, refreshes, waits, tmp_path, answer):
    """The new token is on disk before it is used."""
    server.answers = [answer, 0]
    await stays(connected(), server)
    assert [token for _, token in server.connections] == ["access-1", "access-2"]
    assert refreshes == ["refresh-1"]
    assert waits == []
    assert load(tmp_path / "agent").refresh_token == "refresh-2"


async def test_a_server_that_rejects_every_token_is_not_flooded(server, connected, refreshes, waits):
    """Only the first reconnect comes without delay."""
    server.answers = [401, 401, 401, 401, 0]
    await stays(connected(), server)
    assert len(refreshes) == 4
    assert len(waits) == 3


async def test_a_token_that_is_about_to_expire_is_refreshed_first(server, connected, refreshes):
    """No connection is made with it."""
    server.answers = [0]
    await stays(connected(seconds=10.0), server)
    assert [token for _, token in server.connections] == ["access-2"]


async def test_a_refresh_that_has_begun_is_finished(server, connected, monkeypatch, tmp_path):
    """Its answer has the only valid tokens, also when its caller was cancelled."""
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
    await connection.finish_refresh(10.0)
    assert load(tmp_path / "agent").refresh_token == "refresh-2"


@pytest.fixture
def full_disk(tmp_path: Path) -> Path:
    """What keeps the agent's credentials from being written until it is removed."""
    obstacle = tmp_path / "agent" / f"{FILE_NAME}.partial"
    obstacle.mkdir(mode=0o700, parents=True)
    obstacle.parent.chmod(0o700)
    return obstacle


async def test_tokens_are_presented_only_when_they_are_on_disk(server, connected, refreshes, full_disk):
    """The exchanged token is presented again meanwhile. With its successor used and lost, the next start would count as
    that of a thief."""
    server.answers = [401, 0]
    await stays(connected(seconds=0.0), server)
    assert [token for _, token in server.connections] == ["access-2", "access-3"]
    assert refreshes == ["refresh-1", "refresh-1"]
    assert not (full_disk.parent / FILE_NAME).exists()


async def test_tokens_that_the_disk_did_not_take_are_written_later(
    server, connected, refreshes, monkeypatch, full_disk
):
    """The agent works meanwhile."""
    monkeypatch.setattr(connection_module, "ROOM_SECONDS", 0.01)
    server.answers = [0]
    connection = connected(seconds=0.0)
    await stays(connection, server)
    full_disk.rmdir()

    async def written() -> bool:
        return (full_disk.parent / FILE_NAME).exists()

    await until(written, "the credentials")
    await connection.finish_refresh(10.0)
    kept = load(full_disk.parent)
    assert (kept.access_token, kept.refresh_token) == ("access-2", "refresh-1")


async def test_tokens_that_the_disk_did_not_take_are_written_at_the_end(server, connected, refreshes, full_disk):
    """The agent is stopped before it has tried again."""
    server.answers = [0]
    connection = connected(seconds=0.0)
    await stays(connection, server)
    full_disk.rmdir()
    await connection.finish_refresh(10.0)
    assert load(full_disk.parent).access_token == "access-2"
