"""One agent's terminal in memory: the stream that comes in, the ring that holds its tail, the viewers that read it.

This is the path of terminal bytes. Nothing on it waits for a database, for another viewer, or changes a byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from onsembl.protocol.ids import StreamId
from onsembl.protocol.ring import Ring
from onsembl.protocol.stream import Inbox


@dataclass(frozen=True, slots=True)
class Size:
    """Of a pseudo-terminal, in cells."""

    columns: int
    rows: int


class Terminal:
    """The newest stream of one agent. It outlives the agent's connection, so viewers stay attached.

    `stream_id` is None until the agent has connected for the first time.
    """

    def __init__(self, ring_bytes: int, stream_id: StreamId | None, start: int, size: Size) -> None:
        self._ring_bytes = ring_bytes
        self._wakers: set[asyncio.Event] = set()
        self.begin(stream_id, start, size)

    def begin(self, stream_id: StreamId | None, start: int, size: Size) -> None:
        """Another stream, or the same one from a later byte when those between are lost to this process."""
        self.stream_id = stream_id
        self.inbox = Inbox(start)
        self.ring = Ring(self._ring_bytes, start)
        self.size = size
        self.wake()

    def ingest(self, offset: int, data: bytes) -> None:
        """Bytes from the agent. Raises GapRefused or OffsetOutOfRange and then keeps nothing of them."""
        new = self.inbox.receive(offset, data)
        if new:
            self.ring.append(new)
            self.wake()

    def resize(self, size: Size) -> None:
        """The pseudo-terminal has another size from here on."""
        self.size = size
        self.wake()

    def subscribe(self, waker: asyncio.Event) -> None:
        """Set `waker` whenever there is something new."""
        self._wakers.add(waker)

    def unsubscribe(self, waker: asyncio.Event) -> None:
        self._wakers.discard(waker)

    @property
    def viewers(self) -> int:
        return len(self._wakers)

    def wake(self) -> None:
        for waker in self._wakers:
            waker.set()
