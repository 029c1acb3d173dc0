"""The short way for an agent's terminal bytes: taken where they are read from the socket, without a queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from starlette.websockets import WebSocket

from onsembl.api.terminals.direct_socket import direct_socket
from onsembl.api.terminals.terminal import Terminal
from onsembl.protocol.messages import OUTPUT_HEADER
from onsembl.protocol.stream import MAX_OFFSET

_HEADER_BYTES = OUTPUT_HEADER.size
_offset_of = OUTPUT_HEADER.unpack_from


class DirectInput:
    """Takes frames whose bytes continue the stream, and joins frames that come at once.

    It leaves every other frame to the agent's session, which may have to wait, trim bytes or reject the frame.
    """

    def __init__(
        self, terminal: Terminal, longest: int, received: Callable[[float], None], stopped: Callable[[float], bool]
    ) -> None:
        """`longest` is the largest whole frame, in bytes. `received` is called with the monotonic time when frames were
        taken; `stopped` tells whether the session takes no more of them at that time."""
        self._terminal = terminal
        self._longest = longest
        self._received = received
        self._stopped = stopped

    @contextmanager
    def reading_from(self, websocket: WebSocket) -> Generator[None]:
        """Take frames from the socket within the block, if the server supports it."""
        direct = direct_socket(websocket)
        if direct is None:
            yield
            return
        direct.bound_buffers()
        direct.on_binary = self.take
        try:
            yield
        finally:
            direct.on_binary = None

    def take(self, frames: list[bytes]) -> int:
        """Take frames from the first on, up to one that is left to the session; return how many were taken."""
        terminal, longest, now = self._terminal, self._longest, time.monotonic()
        if terminal.log.backlog.full or self._stopped(now):
            return 0
        start = end = terminal.inbox.end
        parts: list[bytes] = []
        for frame in frames:
            size = len(frame) - _HEADER_BYTES
            if not 0 < size < longest or _offset_of(frame)[0] != end or end > MAX_OFFSET - longest:
                break
            parts.append(frame[_HEADER_BYTES:])
            end += size
        if parts:
            terminal.ingest(start, parts[0] if len(parts) == 1 else b"".join(parts))
            self._received(now)
        return len(parts)
