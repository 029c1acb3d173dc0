"""Peers that read nothing are disconnected, at every kind of connection; slow ones are not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from urllib.parse import urlsplit

import psutil
import pytest
from support.agents import until
from support.cases import cases
from support.frames import attach
from websockets.asyncio.client import ClientConnection, connect

from onsembl.api import serving, stalled_peers
from onsembl.api.stalled_peers import StallWatch
from onsembl.protocol.messages import encode_output

from .test_misbehaving_peers import greet

pytestmark = pytest.mark.no_worker


class Transport:
    """A transport whose buffer has these sizes, one after the other."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = list(sizes)
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self._sizes.pop(0) if len(self._sizes) > 1 else self._sizes[0]

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("sizes", "aborted"),
    [
        ((10,), True),  # Nothing leaves.
        ((10, 12), True),  # Nothing leaves, and more comes.
        ((10, 9, 9, 8, 8, 8), True),  # Each second size is where the next look begins: 9, 8, then nothing leaves.
        ((10, 9, 9, 8, 8, 7, 7, 0), False),  # It reads slowly, to the end.
        ((0,), False),  # Nothing waits.
        ((10, 0, 0), False),
    ],
)
async def test_a_peer_is_stalled_when_no_byte_leaves(monkeypatch, sizes, aborted):
    """A peer that takes some of the waiting bytes between two looks keeps its connection, however slow it is."""
    monkeypatch.setattr(stalled_peers, "STALL_SECONDS", 0.0)
    transport = Transport(*sizes)
    watch = StallWatch(transport)
    watch.start()
    watch.start()
    async with asyncio.timeout(30):
        while watch._timer is not None:
            await asyncio.sleep(0)
    assert transport.aborted == aborted


async def test_a_stopped_watch_does_nothing(monkeypatch):
    """A watch that is stopped before its time leaves the connection."""
    monkeypatch.setattr(stalled_peers, "STALL_SECONDS", 0.0)
    transport = Transport(10)
    watch = StallWatch(transport)
    watch.start()
    watch.stop()
    watch.stop()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not transport.aborted


def narrow_socket(url: str) -> socket.socket:
    """A connected socket that takes few bytes before it is read."""
    parts = urlsplit(url)
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect((parts.hostname, parts.port))
    made.setblocking(False)
    return made


async def read_no_answers(api, sock: socket.socket) -> None:
    """Request more than the server buffers."""
    await request(sock, "/openapi.json", 20)


async def read_no_small_answers(api, sock: socket.socket) -> None:
    """Request so little that the server buffers all answers."""
    await request(sock, "/healthz", 100)


async def request(sock: socket.socket, path: str, count: int) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * count)


async def watch_no_output(api, sock: socket.socket) -> ClientConnection:
    """Attach to a terminal whose program writes a lot."""
    agent, operator = await api.enrol(), await api.operator()
    viewer = await api.terminal_socket(agent.id, sock=sock, max_queue=1, ping_interval=None)
    await attach(viewer, operator.access_token)
    viewer.transport.pause_reading()
    async with api.agent_socket(agent) as source:
        await greet(source)
        for start in range(0, 1_000_000, 65_536):
            await source.send(encode_output(start, bytes(65_536)))
    return viewer


async def take_no_broadcasts(api, sock: socket.socket) -> ClientConnection:
    """Send broadcasts to oneself."""
    secret = api.services.builtin.secret_key
    address = f"{api.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={secret}&vsn=2.0.0"
    realtime = await connect(address, sock=sock, max_queue=1, compression=None, ping_interval=None)
    await realtime.send(json.dumps(["1", "1", "realtime:room", "phx_join", {"config": {"broadcast": {"self": True}}}]))
    await realtime.recv()
    realtime.transport.pause_reading()
    message = json.dumps(["1", "2", "realtime:room", "broadcast", {"event": "e", "payload": {"x": "x" * 100_000}}])
    for _ in range(10):
        await realtime.send(message)
    return realtime


@pytest.fixture
def impatient(monkeypatch) -> None:
    """A server that waits a short time, and whose sockets buffer little."""
    monkeypatch.setattr(stalled_peers, "STALL_SECONDS", 0.3)
    connection_made = serving.PromptProtocol.connection_made

    def narrow(self, transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection_made(self, transport)

    monkeypatch.setattr(serving.PromptProtocol, "connection_made", narrow)


@cases("behave", [read_no_answers, read_no_small_answers, watch_no_output, take_no_broadcasts])
async def test_a_peer_that_reads_nothing_is_disconnected(impatient, api, behave):
    """The server closes the connection of a peer that takes none of the waiting bytes, whatever waits behind them."""
    sock = narrow_socket(api.url)
    port = sock.getsockname()[1]
    peer: ClientConnection | None = None

    async def served() -> bool:
        mine = psutil.Process(os.getpid()).net_connections("tcp")
        return any(one.raddr and one.raddr.port == port for one in mine)

    async def gone() -> bool:
        return not await served()

    try:
        await until(served, "the server to accept the connection")
        peer = await behave(api, sock)
        await until(gone, "the server to disconnect the peer")
    finally:
        if peer is not None:
            peer.transport.abort()
            await peer.wait_closed()
        sock.close()
