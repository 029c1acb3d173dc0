"""What an agent's terminal puts out, taken where it is read from the socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from starlette.websockets import WebSocket

from onsembl.api.direct_socket import direct_socket
from onsembl.api.terminal import Terminal
from onsembl.protocol.messages import OUTPUT_HEADER
from onsembl.protocol.stream import MAX_OFFSET

_HEADER_BYTES = OUTPUT_HEADER.size
_offset_of = OUTPUT_HEADER.unpack_from


class OrdinaryOutput:
    """Takes frames that go on where the last one ended; those that come at once become one piece of the stream.

    What else comes is for the session to answer, which may have to wait, to trim or to refuse.
    """

    def __init__(
        self, terminal: Terminal, longest: int, received: Callable[[float], None], expired: Callable[[float], bool]
    ) -> None:
        """`longest` in bytes, a frame whole; `received` and `expired` are given the time by the monotonic clock."""
        self._terminal = terminal
        self._longest = longest
        self._received = received
        self._expired = expired
        self._parts: list[bytes] = []
        self._start = 0
        self._end = 0

    @contextmanager
    def taken_from(self, websocket: WebSocket) -> Generator[None]:
        """Within the block, if the server can do that."""
        direct = direct_socket(websocket)
        if direct is None:
            yield
            return
        direct.bound_buffers()
        direct.on_binary, direct.on_read = self.take, self.finish
        try:
            yield
        finally:
            direct.on_binary = direct.on_read = None

    def take(self, frame: bytes) -> bool:
        """Whether the frame is an ordinary one, and was taken."""
        size = len(frame) - _HEADER_BYTES
        if not 0 < size < self._longest:
            return False
        if not self._parts:
            if self._terminal.log.backlog.full or self._expired(time.monotonic()):
                return False
            self._start = self._end = self._terminal.inbox.end
        if _offset_of(frame)[0] != self._end or self._end > MAX_OFFSET - self._longest:
            return False
        self._parts.append(frame[_HEADER_BYTES:])
        self._end += size
        return True

    def finish(self) -> None:
        """Hand on what was taken."""
        parts, self._parts = self._parts, []
        if parts:
            self._received(time.monotonic())
            self._terminal.ingest(self._start, parts[0] if len(parts) == 1 else b"".join(parts))
            self._terminal.wake()
