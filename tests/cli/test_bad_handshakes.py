"""Thousands of malicious clients at once, and one legitimate agent."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.agents import until
from support.control_center import ControlCenter, clean_environment
from support.frames import HELLO_TEXT, next_message
from support.missing_guards import without
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus

from onsembl.protocol.messages import AGENT_SUBPROTOCOL
from onsembl.sql.database import connect
from onsembl.sql.enrolment import add_token

OPENED_AT_ONCE = 500
PATIENCE = 15
"""Seconds that the agent's program waits for the server."""
UPGRADE = (
    "GET /v1/agent HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {AGENT_SUBPROTOCOL}\r\n"
)
KINDS = {
    "silent": b"",
    "slow": UPGRADE[:60].encode(),
    "anonymous": f"{UPGRADE}\r\n".encode(),
    "of a page": f"{UPGRADE}Origin: https://evil.example\r\n\r\n".encode(),
    "no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "oversized": UPGRADE.encode() + b"X-Large: " + b"x" * 40_000,
}


async def bad_tokens(database_url: str) -> dict[str, str]:
    """Tokens of an unknown key, of a forged key with a known id, and an expired one."""
    async with await connect(database_url) as conn:
        row = await (await conn.execute("select kid, private_pem from onsembl.signing_keys")).fetchone()
    assert row is not None
    claims = {"iss": "onsembl", "aud": "onsembl-agent", "sub": str(uuid4()), "iat": 1, "exp": 2**33}
    foreign = ec.generate_private_key(ec.SECP256R1())
    return {
        "of an unknown key": jwt.encode(claims, foreign, "ES256", headers={"kid": "k"}),
        "forged": jwt.encode(claims, foreign, "ES256", headers={"kid": row["kid"]}),
        "expired": jwt.encode({**claims, "exp": 2}, row["private_pem"], "ES256", headers={"kid": row["kid"]}),
    }


# The clock that closes a silent connection is tested by itself (tests/api/test_serving.py); with it, how many are open
# at the same moment would depend on how fast the machine opens them.
PATIENT = """
import signal
from onsembl.api import serving
from onsembl.api.auth.rate_limits import RateLimiter
serving.HEAD_SECONDS = 3600.0

def count_as_invalid(limiter, address, agent_id=None):
    limiter.record_invalid_token(address)

def remove_guard(*_):
    RateLimiter.count_connection = count_as_invalid

signal.signal(signal.SIGUSR2, remove_guard)
"""


@pytest.fixture
def server(empty_folder, database_url, tmp_path, count):
    """A server in a process of its own, because both sides open thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > count + 1000, "this takes more open files than are allowed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    environment = clean_environment(DATABASE_URL=database_url, **without(tmp_path / "patient", PATIENT))
    with ControlCenter(empty_folder, environment=environment) as center:
        yield center.ready()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass(slots=True)
class Client:
    """A malicious client of one kind, with the bytes that it sends."""

    kind: str
    says: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: str = ""
    """The HTTP status of the answer; empty when the connection was closed without one."""

    async def until_ended(self) -> None:
        """Say it all, and read until the server closes the connection."""
        with suppress(ConnectionError):  # reset while it still wrote
            self.writer.write(self.says)
            self.status = (await self.reader.read())[9:12].decode()
        self.writer.close()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_bad_handshakes_do_not_keep_a_good_agent_out(server, database_url, count):
    """It connects while all of them are open in the server, and again while all of them say what they want; those that
    have said it are refused or closed, and the rest are open until they go. If their address could be refused for them,
    it would be kept out."""
    access_token = await enrolled(server.address, database_url)
    tokens = await bad_tokens(database_url)
    shown = {kind: f"{UPGRADE}Authorization: Bearer {token}\r\n\r\n".encode() for kind, token in tokens.items()}
    before = sockets_of(server)
    clients = await open_all(server, list({**KINDS, **shown}.items()), count)
    async with asyncio.timeout(150):
        await a_good_agent_connects(server.address, access_token)
        assert sockets_of(server) >= count, "all are still open"

        waiting = [client for client in clients if client.kind in ("silent", "slow")]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                if client in waiting:
                    client.writer.write(client.says)
                else:
                    group.create_task(client.until_ended())
            await a_good_agent_connects(server.address, access_token)
        assert sockets_of(server) >= len(waiting), "none of these has said enough to be answered"
        await a_good_agent_connects(server.address, access_token)
        for client in waiting:
            client.writer.close()

        async def closed() -> bool:
            return sockets_of(server) < before + 100

        await until(closed, "the server to close what has gone")

    answers: dict[str, set[str]] = {}
    for client in clients:
        answers.setdefault(client.kind, set()).add(client.status)
    for kind in ("anonymous", *tokens):
        assert answers[kind] <= {"401", "429"}
    assert answers["of a page"] == {"403"}
    assert answers["no request"] <= {"400", ""} and answers["oversized"] <= {"400", ""}
    server.process.send_signal(signal.SIGUSR2)
    forged = [kind for kind in shown.items() if kind[0] == "forged"]
    with pytest.raises(InvalidStatus):
        async with asyncio.timeout(60):
            while True:
                for client in await open_all(server, forged, OPENED_AT_ONCE):
                    await client.until_ended()
                await a_good_agent_connects(server.address, access_token)
    print(dict(sorted(Counter(f"{client.kind} {client.status or 'closed'}" for client in clients).items())))


async def open_all(server: ControlCenter, kinds: list[tuple[str, bytes]], count: int) -> list[Client]:
    """Connections of all kinds in turn, no faster than the server takes them: its kernel forgets what it has no room
    for."""
    parts = urlsplit(server.address)
    clients: list[Client] = []
    while len(clients) < count:
        opened = await asyncio.gather(
            *(asyncio.open_connection(parts.hostname, parts.port) for _ in range(OPENED_AT_ONCE))
        )
        for reader, writer in opened:
            kind, says = kinds[len(clients) % len(kinds)]
            clients.append(Client(kind, says, reader, writer))

        async def accepted() -> bool:
            return sockets_of(server) >= len(clients)

        await until(accepted, "the server to accept them")
    return clients


def sockets_of(server: ControlCenter) -> int:
    """The number of open sockets of the server's process."""
    count = 0
    for name in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += name.readlink().name.startswith("socket:")
    return count


async def enrolled(address: str, database_url: str) -> str:
    """The access token of a legitimate agent."""
    token = "one_" + "x" * 40
    async with await connect(database_url, role="onsembl_api") as conn:
        await add_token(conn, token, "*", 600, None)
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        answer = await http.post(
            "/v1/agents/enrol", json={"name": "good", "kind": "shell"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 201, answer.text
    return answer.json()["access_token"]


async def a_good_agent_connects(address: str, access_token: str) -> None:
    """Connect with the timeout and the retries of the agent's program."""
    door = connect_socket(
        address.replace("http", "ws") + "/v1/agent",
        additional_headers={"Authorization": f"Bearer {access_token}"},
        subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
        open_timeout=PATIENCE,
    )
    async for connection in door:
        await connection.send(HELLO_TEXT)
        assert (await next_message(connection, "welcome"))["name"] == "good"
        await connection.send(json.dumps({"type": "ping"}))
        await next_message(connection, "pong")
        await connection.close()
        return
