"""One agent's terminal in memory: the stream that comes in, the ring that holds its tail, the viewers that read it.

This is the path of terminal bytes. Nothing on it waits for a database, for another viewer, or changes a byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic, time
from typing import Protocol

from onsembl.api.terminals.archiver import Archiver, StreamLog
from onsembl.api.terminals.terminal_sizes import Size as Size
from onsembl.api.terminals.terminal_sizes import Sizes
from onsembl.protocol.control import Control
from onsembl.protocol.ids import StreamId
from onsembl.protocol.ring import Ring
from onsembl.protocol.stream import MAX_OFFSET, Inbox
from onsembl.protocol.terminal_modes import TerminalModes

SAMPLED = 32
"""One chunk in so many is timed on its way to the viewers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The bytes below `end` were here at `at`, by the monotonic clock."""

    end: int
    at: float


class TerminalSubscriber(Protocol):
    """A viewer, as the terminal sees it. What it does may not wait, and may not raise."""

    def follow(self, start: int, data: bytes) -> None:
        """The ring has new bytes: `data`, the first at `start`."""
        ...

    def wake(self) -> None:
        """There may be something else that is new."""
        ...


class Terminal:
    """The newest stream of one agent. It outlives the agent's connection, so viewers stay attached.

    `stream_id` is None until the agent has connected for the first time.
    """

    def __init__(self, ring_bytes: int, archiver: Archiver, stream_id: StreamId | None, start: int, size: Size) -> None:
        self._ring_bytes = ring_bytes
        self._archiver = archiver
        self._subscribers: set[TerminalSubscriber] = set()
        self._log: StreamLog | None = None
        self.refilling = asyncio.Lock()
        self._unsampled = 0
        self.sample: Sample | None = None
        self.control = Control()
        self.control_changing = asyncio.Lock()
        self.redraw_due = False
        """Whether a viewer lacks what a full-screen program drew, and the agent was not there to be told."""
        self.inbox = Inbox(start)
        self._earlier, self._elsewhere = 0, start
        self.begin(stream_id, start, size)

    def begin(self, stream_id: StreamId | None, start: int, size: Size) -> None:
        """Another stream, or the same one from a later byte when those between are lost to this process.

        The archive has it up to `start`.
        """
        if self._log is not None:
            self._archiver.close(self._log)
        self._log = self._archiver.open(stream_id, start) if stream_id is not None else None
        self.stream_id = stream_id
        self.sample = None
        self._earlier, self._elsewhere = self.received, start
        self.inbox = Inbox(start)
        self.ring = Ring(self._ring_bytes, start)
        self.modes = TerminalModes(start)
        self.promised: int | None = None
        """How far the agent that is connected says that its bytes go; None when there is none to ask."""
        self.refilled = start == 0
        """Whether the ring has all that it can have; when a process begins with a stream, it lacks what came before."""
        self.sizes = Sizes(start, size)
        self.wake()

    @property
    def size(self) -> Size:
        """The newest that the agent has told of."""
        return self.sizes.newest

    @property
    def log(self) -> StreamLog:
        """The stream's way into the archive; there is one once there is a stream."""
        assert self._log is not None
        return self._log

    @property
    def received(self) -> int:
        """How many new bytes the agent has sent here, of all its streams; it never falls."""
        return self._earlier + self.inbox.end - self._elsewhere

    @property
    def upto(self) -> int:
        """How far the stream may go by now: a viewer may have seen bytes that come here again only now."""
        return MAX_OFFSET if self.promised is None else max(self.promised, self.inbox.end)

    def ingest(self, offset: int, data: bytes) -> None:
        """Bytes from the agent. Raises GapRejected or OffsetOutOfRange and then keeps nothing of them."""
        new = self.inbox.receive(offset, data)
        if new:
            start = self.ring.end
            self.ring.append(new)
            self._unsampled -= 1
            if self._unsampled < 0:
                self._unsampled = SAMPLED
                self.sample = Sample(self.inbox.end, monotonic())
            for subscriber in self._subscribers:
                subscriber.follow(start, new)
            self.modes.feed(new)  # what can wait comes after the viewers
        # The archive may lack bytes that viewers have had, or have them before they came here.
        log = self.log
        log.backlog.offer(offset, data, time())
        if offset < log.backlog.start and log.on_archived is not None:
            log.on_archived()

    def fill(self, data: bytes) -> None:
        """The next bytes, out of the archive: they went there by way of another process."""
        self.inbox.end += len(data)
        self._elsewhere += len(data)
        self.ring.append(data)
        self.modes.feed(data)
        self.wake()

    def resize(self, size: Size, offset: int = 0) -> None:
        """The pseudo-terminal has this size from the byte at `offset` on, or from the next one that comes."""
        place = max(offset, self.inbox.end)
        self.log.resized(place, size.columns, size.rows)
        if size != self.size:
            self.sizes.change(place, size)
            self.wake()

    def subscribe(self, subscriber: TerminalSubscriber) -> None:
        """Tell it whenever there is something new."""
        self._subscribers.add(subscriber)

    def unsubscribe(self, subscriber: TerminalSubscriber) -> None:
        self._subscribers.discard(subscriber)

    @property
    def viewers(self) -> int:
        return len(self._subscribers)

    def wake(self) -> None:
        for subscriber in self._subscribers:
            subscriber.wake()
