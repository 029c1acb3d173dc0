"""The server's limits for requests that are slow, too large or invalid."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from support.cases import cases
from support.frames import HELLO_TEXT
from support.server import running

from onsembl.api import serving
from onsembl.realtime import bodies

pytestmark = pytest.mark.no_worker

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def quick(monkeypatch) -> None:
    """A short timeout, for heads that never arrive."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)


@pytest.fixture
def patient(monkeypatch) -> None:
    """A timeout that is long enough for valid requests on a busy machine."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 2.0)


@pytest.fixture
def quick_body(monkeypatch) -> None:
    """A short timeout, for bodies that never arrive."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)


async def answer_to(api, *pieces: bytes) -> bytes:
    """The bytes that the server sends until it closes the connection."""
    parts = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    async with asyncio.timeout(30):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        got = await reader.read()
    writer.close()
    return got


@pytest.mark.parametrize(
    "pieces",
    [(), (b"GET /healthz HT",), (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Slow: ye")],
    ids=["nothing", "half a line", "half its headers"],
)
async def test_a_client_that_does_not_say_what_it_wants_is_closed(quick, api, pieces):
    """A connection without a complete head in time is closed, even if it sends bytes now and then."""
    assert await answer_to(api, *pieces) == b""


async def test_a_second_request_that_stalls_is_closed(patient, api):
    """A connection that is kept alive is closed if its second request stalls."""
    assert (await answer_to(api, WHOLE + b"GET /hea")).count(b"HTTP/1.1 200") == 1


async def test_a_kept_connection_outlasts_the_proxy_in_front(quick, api):
    """A connection whose requests are answered is kept when the time for a head is over, and longer than Caddy, the
    most patient of the usual proxies, keeps it."""
    parts = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with closing(writer):
        for _ in range(2):
            writer.write(WHOLE)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            assert await answer_to(api) == b"", "one that came later has used up its time"
    assert serving.uvicorn_config(Starlette()).timeout_keep_alive > 120


async def test_an_idle_connection_is_closed(monkeypatch, settings):
    """A connection that is kept alive is closed when its next request does not come."""
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.1)
    async with running(settings) as api:
        assert (await answer_to(api, WHOLE)).count(b"HTTP/1.1 200") == 1


async def test_what_is_in_time_is_served_for_as_long_as_it_takes(patient, api):
    """The timeout ends with the head, so a WebSocket stays open."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        assert await answer_to(api) == b"", "one that came later has used up its time"
        await socket.send(HELLO_TEXT)
        assert json.loads(await socket.recv())["type"] == "welcome"


async def test_headers_have_a_bound(api):
    """Headers that are too large answer 400, and the connection is closed."""
    flood = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * (serving.MAX_HEAD_BYTES + 1)
    assert (await answer_to(api, flood)).startswith(b"HTTP/1.1 400")


async def test_headers_that_come_at_once_have_a_bound(api):
    """Headers that are too large answer 400 also when they arrive whole; below the bound they are served."""

    def request(size: int) -> bytes:
        return b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Large: " + b"x" * size + b"\r\n\r\n"

    assert (await answer_to(api, request(serving.MAX_HEAD_BYTES))).startswith(b"HTTP/1.1 400")
    assert (await answer_to(api, request(serving.MAX_HEAD_BYTES - 200))).startswith(b"HTTP/1.1 200")


DOORS = [
    ("/v1/agents/token", "application/json"),
    ("/v1/device/authorization", "application/x-www-form-urlencoded"),
    ("/v1/device/token", "application/x-www-form-urlencoded"),
    ("/auth/v1/token?grant_type=password", "application/json"),
    ("/realtime/v1/api/broadcast", "application/json"),
    ("/realtime/v1/api/broadcast/room/events/shout", "application/octet-stream"),
]


async def head_of(api, path: str, content: str, length: int) -> bytes:
    token = "onr_x" if path.startswith("/v1") else api.services.builtin.secret_key
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\napikey: {await api.key()}\r\n"
        f"Content-Type: {content}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@cases(("path", "content"), DOORS)
async def test_a_body_that_does_not_come_is_not_waited_for(quick_body, api, path, content):
    """Every endpoint answers 408 to a body that is shorter than announced."""
    head = await head_of(api, path, content, 100)
    assert (await answer_to(api, head, b"{")).startswith(b"HTTP/1.1 408")


@cases(
    ("path", "content", "most"),
    [(*door, most) for door, most in zip(DOORS, (2**20, 2**14, 2**14, 2**16, 8_000_000, 8_000_000), strict=True)],
)
async def test_a_body_has_a_bound(api, path, content, most):
    """Every endpoint answers 413 as soon as a body is too large."""
    head = await head_of(api, path, content, 100_000_000)
    assert (await answer_to(api, head, b"x" * (most + 1))).startswith(b"HTTP/1.1 413")


def test_a_flood_is_no_flood_of_lines(monkeypatch):
    """A repeated warning is logged once in each interval, and uvicorn's error for a rejected upgrade is never
    logged."""
    now = 0.0
    monkeypatch.setattr(serving.time, "monotonic", lambda: now)
    seen = serving.RepeatFilter()

    def said(text: str) -> bool:
        return seen.filter(logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, text, None, None))

    assert [said("bad"), said("bad"), said("other"), said(serving.REFUSED)] == [True, False, True, False]
    now = serving.REPEAT_SECONDS
    assert said("bad")
