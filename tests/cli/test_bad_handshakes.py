"""Ten thousand clients at once that want nothing good, and one agent that does."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from urllib.parse import urlsplit

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
FORGED = jwt.encode(
    {"sub": "x", "aud": "onsembl-agent"}, ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "k"}
)
UPGRADE = (
    "GET /v1/agent HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {AGENT_SUBPROTOCOL}\r\n"
)
KINDS = {
    "silent": b"",
    "slow": UPGRADE[:60].encode(),
    "forged": f"{UPGRADE}Authorization: Bearer {FORGED}\r\n\r\n".encode(),
    "anonymous": f"{UPGRADE}\r\n".encode(),
    "of a page": f"{UPGRADE}Origin: https://evil.example\r\n\r\n".encode(),
    "no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "oversized": UPGRADE.encode() + b"X-Large: " + b"x" * 40_000,
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


async def test_ten_thousand_bad_handshakes_do_not_keep_a_good_agent_out(server, database_url):
    """It enrols, connects and is answered while all of them are open; each of them is refused or closed."""
    parts = urlsplit(server.address)
    opened = asyncio.Semaphore(500)
    everyone, ended = asyncio.Event(), Counter()
    number = 0

    async def client(kind: str, says: bytes) -> None:
        nonlocal number
        async with opened:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        number += 1
        if number == CLIENTS:
            everyone.set()
        try:
            writer.write(says)
            answer = await reader.read()
        except ConnectionError:  # reset while it still wrote
            answer = b""
        ended[kind, answer[9:12].decode()] += 1
        writer.close()

    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        for index in range(CLIENTS):
            group.create_task(client(*list(KINDS.items())[index % len(KINDS)]))
        await everyone.wait()
        await a_good_agent_connects(server.address, database_url)
    assert ended.total() == CLIENTS
    statuses = {kind: {status for (of, status) in ended if of == kind} for kind in KINDS}
    assert statuses["silent"] == statuses["slow"] == {""}, "closed, with nothing said"
    assert statuses["forged"] <= {"401", "429"} and statuses["anonymous"] <= {"401", "429"}
    assert statuses["of a page"] == {"403"}
    assert statuses["no request"] <= {"400", ""} and statuses["oversized"] <= {"400", ""}
    print({f"{kind} {status or 'closed'}": count for (kind, status), count in sorted(ended.items())})


async def a_good_agent_connects(address: str, database_url: str) -> None:
    token = "one_" + "x" * 40
    async with await connect(database_url, role="onsembl_api") as conn:
        await add_token(conn, token, "*", 600, None)
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        answer = await http.post(
            "/v1/agents/enrol", json={"name": "good", "kind": "shell"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 201, answer.text
    async with connect_socket(
        address.replace("http", "ws") + "/v1/agent",
        additional_headers={"Authorization": f"Bearer {answer.json()['access_token']}"},
        subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
        open_timeout=60,
    ) as socket:
        await socket.send(SAID_HELLO)
        assert (await next_message(socket, "welcome"))["name"] == "good"
        await socket.send(json.dumps({"type": "ping"}))
        await next_message(socket, "pong")
