"""The direct path through the WebSocket server passes the same messages in the same order, with the same rejections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from onsembl.api.serving import uvicorn_config
from onsembl.api.terminals.direct_socket import BATCH_SECONDS, BURST_MESSAGES, DirectSocket, direct_socket, send_text


class Echo:
    """Echoes each message, messages that begin with `d` directly, and notes how many of these came at once."""

    def __init__(self) -> None:
        self.reads: list[int] = []

    async def serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        direct = direct_socket(websocket)
        assert isinstance(direct, DirectSocket)

        def take(messages: list[bytes]) -> int:
            taken = 0
            for message in messages:
                if not message.startswith(b"d") or not direct.has_room:
                    break
                direct.write(message)
                taken += 1
            self.reads.append(taken)
            return taken

        direct.on_binary = take
        try:
            while True:
                event = await websocket.receive()
                if event["type"] == "websocket.disconnect":
                    return
                if event.get("bytes") is not None:
                    await websocket.send_bytes(event["bytes"])
                else:
                    await send_text(websocket, event["text"])
        except WebSocketDisconnect:
            return


@asynccontextmanager
async def serving(echo: Echo | Crowded | Busy) -> AsyncGenerator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn_config(Starlette(routes=[WebSocketRoute("/", echo.serve)])))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


async def test_messages_of_every_kind_come_back_in_order():
    """Messages arrive in order, directly or not, whole or fragmented, with pings between, at every header length."""
    echo = Echo()
    async with serving(echo) as url, connect(url, compression=None, max_size=None) as client:
        sent: list[str | bytes] = []
        for size in (1, 2, 124, 125, 126, 127, 4096, 65_535, 65_536, 300_000):
            sent += [b"d" * size, b"q" * size, b"d" + b"x" * size, "t" * size]
        for message in sent:
            await client.send(message)
            await client.ping()
        await client.send([b"d", b"in", b"parts"])
        await client.send(["in ", "parts"])
        sent += [b"dinparts", "in parts"]
        for message in sent:
            assert await client.recv() == message
        assert sum(echo.reads) > 0


async def test_frames_that_come_together_are_read_together_and_those_in_pieces_too():
    """Frames are read correctly however the bytes are cut."""
    echo = Echo()
    messages = [b"d%d" % number for number in range(50)]
    stream = b"".join(Frame(Opcode.BINARY, message).serialize(mask=True) for message in messages)
    async with serving(echo) as url, connect(url, compression=None) as client:
        client.transport.write(stream)
        for message in messages:
            assert await client.recv() == message
        assert max(echo.reads) > 1
        for byte in stream:
            client.transport.write(bytes([byte]))
            await asyncio.sleep(0)
        for message in messages:
            assert await client.recv() == message


class Crowded:
    """Fills its socket while two messages wait, and sends a third as soon as the socket has room."""

    def __init__(self) -> None:
        self.full = asyncio.Event()

    async def serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        direct = direct_socket(websocket)
        assert isinstance(direct, DirectSocket)
        while direct.has_room:
            direct.write(bytes(100_000))
        waiting = [asyncio.create_task(send_text(websocket, text)) for text in ("first", "second")]
        await asyncio.sleep(0)
        self.full.set()
        while not direct.has_room:
            await asyncio.sleep(0)
        await send_text(websocket, "third")
        await asyncio.gather(*waiting)
        await websocket.receive()


async def test_what_waits_is_not_overtaken():
    """When a socket has room again, the messages that waited are sent first."""
    crowded = Crowded()
    async with serving(crowded) as url, connect(url, compression=None, max_queue=1) as client:
        await crowded.full.wait()
        texts = [message async for message in _texts(client, 3)]
        assert texts == ["first", "second", "third"]


async def _texts(client: ClientConnection, count: int) -> AsyncGenerator[str]:
    while count:
        if isinstance(message := await client.recv(), str):
            count -= 1
            yield message


class Busy:
    """Takes messages directly while it can, and receives the others only after `released` is set."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.paused: list[bool] = []
        self.socket: DirectSocket
        self.read = asyncio.Event()
        self.released = asyncio.Event()

    async def serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        direct = direct_socket(websocket)
        assert isinstance(direct, DirectSocket)
        self.socket = direct
        direct.on_binary = self._take
        await self.released.wait()
        while (event := await websocket.receive())["type"] != "websocket.disconnect":
            if event.get("text") is not None:
                await websocket.send_text(event["text"])

    def _take(self, messages: list[bytes]) -> int:
        self.taken += messages
        self.socket.loop.call_soon(self._look)  # Runs before any timer.
        return len(messages)

    def _look(self) -> None:
        self.paused.append(not self.socket.transport.is_reading())
        self.read.set()

    async def gathered(self) -> None:
        """Wait until the gathering time, which began with the taken messages, is over."""
        over = asyncio.Event()
        self.socket.loop.call_later(BATCH_SECONDS, over.set)
        await over.wait()


async def test_what_floods_gathers_and_is_all_taken():
    """After many messages at once the server pauses reading for a moment, and then takes all that arrived meanwhile."""
    busy = Busy()
    async with serving(busy) as url, connect(url, compression=None) as client:
        messages = [b"message %d" % number for number in range(BURST_MESSAGES * 10)]
        for first in range(0, len(messages), BURST_MESSAGES):
            burst = messages[first : first + BURST_MESSAGES]
            client.transport.write(b"".join(Frame(Opcode.BINARY, one).serialize(mask=True) for one in burst))
            await busy.read.wait()
            busy.read.clear()
        assert busy.taken == messages
        assert busy.paused == [True] * 10
        busy.released.set()
        await client.send("still here")
        assert await client.recv() == "still here"


async def test_an_application_that_is_behind_is_not_given_more_because_the_flood_has_gathered():
    """An application that has paused reading stays paused when the gathering pause ends."""
    busy = Busy()
    flood = [Frame(Opcode.BINARY, b"a message").serialize(mask=True)] * BURST_MESSAGES
    async with serving(busy) as url, connect(url, compression=None) as client:
        client.transport.write(b"".join([*flood, Frame(Opcode.TEXT, b"for the application").serialize(mask=True)]))
        await busy.read.wait()
        await busy.gathered()
        assert not busy.socket.transport.is_reading()
        busy.released.set()
        assert await client.recv() == "for the application"
        assert busy.socket.transport.is_reading()


async def test_a_flood_that_is_cut_off_ends_as_others_do():
    """A flood ends as other connections do when the peer disconnects during the gathering pause."""
    busy = Busy()
    async with serving(busy) as url:
        client = await connect(url, compression=None)
        client.transport.write(Frame(Opcode.BINARY, b"a message").serialize(mask=True) * BURST_MESSAGES)
        await busy.read.wait()
        client.transport.abort()
        busy.socket.transport.abort()
        await busy.gathered()
        assert busy.socket.transport.is_closing()
        busy.released.set()


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"\x82\x01d", 1002),
        (b"\xc2\x81" + bytes(4) + b"d", 1002),
        (b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4), 1009),
        (b"\x80\x81" + bytes(4) + b"d", 1002),
        (b"\x81\x81" + bytes(4) + b"\xff", 1007),
    ],
    ids=["unmasked", "reserved bit", "too long", "nothing to continue", "not UTF-8"],
)
async def test_what_breaks_the_protocol_is_closed_as_before(bad, code):
    """A frame that violates the protocol closes the connection after the valid messages before it are delivered."""
    echo = Echo()
    async with serving(echo) as url, connect(url, compression=None) as client:
        client.transport.write(Frame(Opcode.BINARY, b"dgood").serialize(mask=True) + bad)
        assert await client.recv() == b"dgood"
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == code
