"""The WebSocket protocol of the server, with a direct path for terminal bytes.

ASGI passes one message in each turn of the event loop, through a queue, and pauses the socket in between. Between an
agent and its viewers that would take most of the time and of the work. With a `DirectSocket`, which the scope has under
`EXTENSION`, an application receives binary messages as soon as they are read from the socket, and writes in the same
turn to sockets that have room. Every other message passes through ASGI.

Bursts of messages are batched for a moment, so that they are sent in fewer frames.
"""

from __future__ import annotations

import struct
from asyncio import BaseTransport
from collections.abc import Callable
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import apply_mask  # pyright: ignore[reportPrivateImportUsage]
from websockets.http11 import Request

from onsembl.api.stalled_peers import StallWatch
from onsembl.protocol.frames import WHOLE_BINARY, WHOLE_TEXT, NotAFrame, client_frame, server_frame

EXTENSION = "onsembl.direct"
_HEAD = struct.Struct(">HH")
_SHORT_BINARY = 0x82FE
"""The first two bytes of a whole binary message of 126 to 65,535 bytes; its length follows in two bytes."""
BUFFER_BYTES = 128 * 1024
"""The size of each of a socket's two buffers; Linux doubles it."""
BURST_MESSAGES = 4
"""This many messages in one read are a burst."""
BATCH_SECONDS = 0.002
"""How long the messages after a burst are batched, in seconds."""


class DirectSocket(WebSocketsSansIOProtocol):
    """One connection. The application sets `on_binary` while it takes messages directly.

    `on_binary` is called with the whole binary messages of one read, unless other messages wait before them. It returns
    how many of them it has taken, from the first on. It may not raise.
    """

    on_binary: Callable[[list[bytes]], int] | None = None
    reads = 0
    """How often data has come from the peer: a frame of any kind, also a ping, or a part of one."""
    _rest = b""
    _plain = False
    """Whether the parser gets all data, because it has received a part of a frame or an invalid frame."""
    _full = False
    _sending = 0
    """The number of ASGI messages that are being sent; most of them wait for room."""
    _framed: tuple[bytes, bytes] = (b"", b"")
    """The last message that any socket sent, and its frame: the viewers of one terminal are sent the same object."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Prepare the watch for a peer that does not read."""
        super().connection_made(transport)
        self._stall = StallWatch(self.transport)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast("dict[str, Any]", self.scope)["extensions"][EXTENSION] = self

    def data_received(self, data: bytes) -> None:
        """Pass whole binary messages to the application, and every other frame to the parser."""
        self.reads += 1
        if self._plain or not self.handshake_complete or self.close_sent:
            # A client may not send before the handshake is complete: the parser handles one that does.
            self._plain = self._plain or self.handshake_initiated
            super().data_received(self._rest + data if self._rest else data)
            self._rest = b""
            return
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, longest = 0, self.config.ws_max_size
        try:
            while True:
                if not self.frames and not self.close_sent:
                    messages, at = _whole_binaries(data, at, longest)
                    if messages:
                        self._give(messages)
                if (frame := client_frame(data, at, longest)) is None:
                    break
                super().data_received(data[at : frame[2]])
                at = frame[2]
            self._rest = data[at:]
        except NotAFrame:
            self._plain = True
            super().data_received(data[at:])

    def _give(self, messages: list[bytes]) -> None:
        taken = self.on_binary(messages) if self.on_binary is not None and self.queue.empty() else 0
        if taken >= BURST_MESSAGES:
            # A read, and a write for each viewer, cost as much for few bytes as for many.
            self.transport.pause_reading()
            self.loop.call_later(BATCH_SECONDS, self._read_on)
        for message in messages[taken:]:
            self.curr_msg_data_type, self.frames = "bytes", [message]
            self.send_receive_event_to_app()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._full = True
        self._stall.start()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        super().resume_writing()
        self._full = False
        self._stall.stop()

    async def run_asgi(self) -> None:
        """Run the application; once it has ended, the bytes that still wait must leave."""
        try:
            await super().run_asgi()
        finally:
            if not self.disconnected:
                self._stall.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the watch."""
        self._stall.stop()
        super().connection_lost(exc)

    def _read_on(self) -> None:
        # The application may have paused reading, too.
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def has_room(self) -> bool:
        """Whether `write` may be called now."""
        return not (self._full or self._sending or self.close_sent or self.disconnected)

    async def send(self, message: Any) -> None:
        """Send an ASGI message. Direct writes do not overtake it: `has_room` is false until it is sent."""
        self._sending += 1
        try:
            await super().send(message)
        finally:
            self._sending -= 1

    def bound_buffers(self) -> None:
        """Make the system's buffers small: bytes that wait there add latency."""
        if self.transport.is_closing():
            return
        connection = self.transport.get_extra_info("socket")
        for option in (SO_SNDBUF, SO_RCVBUF):
            connection.setsockopt(SOL_SOCKET, option, BUFFER_BYTES)

    def write_at_once(self) -> None:
        """Have uvloop write at once, not at the end of its turn. This is slower for a viewer that is behind, since
        each message then waits for the one before."""
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(high=0)

    def write(self, data: bytes) -> None:
        """Send a binary message. Call this only if the socket `has_room`."""
        known, frame = DirectSocket._framed
        if data is not known:
            frame = server_frame(WHOLE_BINARY, data)
            DirectSocket._framed = (data, frame)
        self.transport.write(frame)

    def write_text(self, text: str) -> None:
        """Send a text message. Call this only if the socket `has_room`."""
        self.transport.write(server_frame(WHOLE_TEXT, text.encode()))


def _whole_binaries(data: bytes, at: int, longest: int) -> tuple[list[bytes], int]:
    """The consecutive binary messages of one frame each from `at` on, and the place of the next frame, which is of
    another kind, incomplete or invalid. Written for speed: all output comes this way."""
    messages: list[bytes] = []
    size = len(data)
    while at + 8 <= size:
        head, length = _HEAD.unpack_from(data, at)
        if head == _SHORT_BINARY and length <= longest:
            begin = at + 8
            end = begin + length
            if end > size:
                break
        else:
            try:
                frame = client_frame(data, at, longest)
            except NotAFrame:
                break
            if frame is None or frame[0] != WHOLE_BINARY:
                break
            _, begin, end = frame
        messages.append(apply_mask(data[begin:end], data[begin - 4 : begin]))
        at = end
    return messages, at


def direct_socket(websocket: WebSocket) -> DirectSocket | None:
    """The DirectSocket of a connection; None under another server."""
    return websocket.scope.get("extensions", {}).get(EXTENSION)


def send_now(websocket: WebSocket, text: str) -> bool:
    """Send a text message if the socket has room; return False, without waiting, if it has none.

    A ping must not wait behind bytes that the peer does not read: it is there to find that out. A socket without room
    is watched by its StallWatch.
    """
    direct = direct_socket(websocket)
    if direct is None or not direct.has_room:
        return False
    direct.write_text(text)
    return True


async def send_text(websocket: WebSocket, text: str) -> None:
    """Send a text message: directly if possible, which takes a fifth of the work. Raises the errors of Starlette."""
    direct = direct_socket(websocket)
    if direct is not None and direct.has_room:
        direct.write_text(text)
    else:
        await websocket.send_text(text)
