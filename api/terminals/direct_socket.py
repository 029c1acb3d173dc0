"""The WebSocket protocol of the server, with a short way for terminal bytes.

ASGI hands over one message a turn of the event loop, through a queue, and pauses the socket in between. On the way from
an agent to its viewers that is most of the time and of the work. So an application may take binary messages where they
are read from the socket, and write to sockets that have room, in the same turn: `DirectSocket`, in the scope's
extensions under `EXTENSION`. All else goes as ASGI says, and so do binary messages that the application does not take.

Messages that come faster than they are passed on gather for a moment, and go on as few: that is when it counts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import apply_mask  # pyright: ignore[reportPrivateImportUsage]
from websockets.http11 import Request

from onsembl.protocol.frames import WHOLE_BINARY, WHOLE_TEXT, NotAFrame, client_frame, server_frame

EXTENSION = "onsembl.direct"
_HEAD = struct.Struct(">HH")
_SHORT_BINARY = 0x82FE
"""How a whole binary message of 126 to 65,535 bytes begins; two bytes that hold its length follow."""
BUFFER_BYTES = 128 * 1024
"""Each way; Linux doubles it."""
FLOOD_MESSAGES = 4
"""So many at once say that they come faster than they are passed on."""
GATHER_SECONDS = 0.002
"""For so long what follows them may gather, to be passed on as one."""


class DirectSocket(WebSocketsSansIOProtocol):
    """One connection. The application sets `on_binary` while it wants messages directly.

    `on_binary` is given the whole binary messages that came at once, when nothing is waiting before them; it answers
    how many of them, from the first on, it has taken. It may not raise.
    """

    on_binary: Callable[[list[bytes]], int] | None = None
    _rest = b""
    _plain = False
    """Whether the parser gets what comes as it comes: it has had a part of a frame, or something that is none."""
    _full = False
    _sending = 0
    """Messages of ASGI's that wait for room, mostly."""
    _framed: tuple[bytes, bytes] = (b"", b"")
    """The last message that any socket was given and its frame: viewers of one terminal are given the same object."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast("dict[str, Any]", self.scope)["extensions"][EXTENSION] = self

    def data_received(self, data: bytes) -> None:
        """Give whole binary messages to who wants them, and every other frame to the parser."""
        if self._plain or not self.handshake_complete or self.close_sent:
            # Before the handshake is over a client has nothing to say: one that does is left to the parser.
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
        if taken >= FLOOD_MESSAGES:
            # A read and a write for each viewer cost as much for few bytes as for many.
            self.transport.pause_reading()
            self.loop.call_later(GATHER_SECONDS, self._read_on)
        for message in messages[taken:]:
            self.curr_msg_data_type, self.frames = "bytes", [message]
            self.send_receive_event_to_app()

    def pause_writing(self) -> None:
        """The transport holds as much as it may."""
        super().pause_writing()
        self._full = True

    def resume_writing(self) -> None:
        """It has room again."""
        super().resume_writing()
        self._full = False

    def _read_on(self) -> None:
        # Unless what waits for the application is enough.
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def has_room(self) -> bool:
        """Whether `write` may be used now."""
        return not (self._full or self._sending or self.close_sent or self.disconnected)

    async def send(self, message: Any) -> None:
        """As ASGI says. What waits here is not overtaken: there is no room meanwhile."""
        self._sending += 1
        try:
            await super().send(message)
        finally:
            self._sending -= 1

    def bound_buffers(self) -> None:
        """Let the system hold little of what is on its way: what waits there is latency, and is out of our hands."""
        if self.transport.is_closing():
            return
        connection = self.transport.get_extra_info("socket")
        for option in (SO_SNDBUF, SO_RCVBUF):
            connection.setsockopt(SOL_SOCKET, option, BUFFER_BYTES)

    def write_at_once(self) -> None:
        """From now on uvloop writes at once, not at the end of its turn. For one that is behind it is the slower way:
        then each message waits for the one before it."""
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(high=0)

    def write(self, data: bytes) -> None:
        """Send a binary message. Only when it `has_room`."""
        known, frame = DirectSocket._framed
        if data is not known:
            frame = server_frame(WHOLE_BINARY, data)
            DirectSocket._framed = (data, frame)
        self.transport.write(frame)

    def write_text(self, text: str) -> None:
        """Send a text message. Only when it `has_room`."""
        self.transport.write(server_frame(WHOLE_TEXT, text.encode()))


def _whole_binaries(data: bytes, at: int, longest: int) -> tuple[list[bytes], int]:
    """The binary messages of one frame each that follow one another from `at` on, and where the next frame begins: one
    of another kind, one that is not all there, or one that is none. Written for speed: all output comes this way."""
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
    """The short way of a connection; None under a server that has none."""
    return websocket.scope.get("extensions", {}).get(EXTENSION)


async def send_text(websocket: WebSocket, text: str) -> None:
    """Send a text message: directly if that can be, which takes a fifth of the work. Raises what Starlette does."""
    direct = direct_socket(websocket)
    if direct is not None and direct.has_room:
        direct.write_text(text)
    else:
        await websocket.send_text(text)
