"""Ten thousand clients at once that want nothing good, and one agent that does."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from collections import Counter
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.control_center import ControlCenter, clean_environment
from support.frames import SAID_HELLO, next_message
from websockets.asyncio.client import connect as connect_socket

from onsembl.protocol.messages import AGENT_SUBPROTOCOL
from onsembl.sql.database import connect
from onsembl.sql.enrolment import add_token

CLIENTS = 10_000
PATIENCE = 15
"""Seconds that the agent's program gives the server."""
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
    """By a key that nobody knows; by another one under a key's name that is known; and one that was good once."""
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


@pytest.fixture
def server(folder, database_url):
    """In a process of its own: each side has its own ten thousand sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > CLIENTS + 1000, "this takes more open files than are allowed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ControlCenter(folder, environment=clean_environment(DATABASE_URL=database_url)) as center:
        yield center.ready()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def probe(opened: socket.socket) -> None:
    """Have the kernel ask for life: where the server's had no room to note the connection, a client that says nothing
    would never hear that there is none."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)


async def test_ten_thousand_bad_handshakes_do_not_keep_a_good_agent_out(server, database_url):
    """It connects and is answered when all of them have come; each of them is refused or closed."""
    parts = urlsplit(server.address)
    access_token = await enrolled(server.address, database_url)
    tokens = await bad_tokens(database_url)
    shown = {kind: f"{UPGRADE}Authorization: Bearer {token}\r\n\r\n".encode() for kind, token in tokens.items()}
    kinds = {**KINDS, **shown}
    opened = asyncio.Semaphore(500)
    everyone, ended = asyncio.Event(), Counter()
    number = now = most = 0

    async def client(kind: str, says: bytes) -> None:
        nonlocal number, now, most
        async with opened:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        probe(writer.get_extra_info("socket"))
        number, now = number + 1, now + 1
        most = max(most, now)
        if number == CLIENTS:
            everyone.set()
        try:
            writer.write(says)
            answer = await reader.read()
        except ConnectionError:  # reset while it still wrote
            answer = b""
        now -= 1
        ended[kind, answer[9:12].decode()] += 1
        writer.close()

    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        for index in range(CLIENTS):
            group.create_task(client(*list(kinds.items())[index % len(kinds)]))
        await everyone.wait()
        await a_good_agent_connects(server.address, access_token)
    assert ended.total() == CLIENTS
    # One for which the server's kernel had no room may be closed with nothing said, whatever it wanted.
    statuses = {kind: {status for (of, status) in ended if of == kind} - {""} for kind in kinds}
    assert statuses["silent"] == statuses["slow"] == set(), "closed, with nothing said"
    for kind in ("anonymous", *tokens):
        assert statuses[kind] and statuses[kind] <= {"401", "429"}
    assert statuses["of a page"] == {"403"}
    assert statuses["no request"] <= {"400"} and statuses["oversized"] <= {"400"}
    print(
        f"{most} open at once;",
        {f"{kind} {status or 'closed'}": count for (kind, status), count in sorted(ended.items())},
    )


async def enrolled(address: str, database_url: str) -> str:
    """The access token of a good agent."""
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
    """Each try has the program's own patience, and it tries again as the program does."""
    door = connect_socket(
        address.replace("http", "ws") + "/v1/agent",
        additional_headers={"Authorization": f"Bearer {access_token}"},
        subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
        open_timeout=PATIENCE,
    )
    async for connection in door:
        await connection.send(SAID_HELLO)
        assert (await next_message(connection, "welcome"))["name"] == "good"
        await connection.send(json.dumps({"type": "ping"}))
        await next_message(connection, "pong")
        await connection.close()
        return
