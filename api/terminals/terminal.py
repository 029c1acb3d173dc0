"""One agent's terminal in memory: the stream that comes in, the ring that holds its tail, and the viewers that read it.

This is the path of terminal bytes. Nothing on it waits for a database or for another viewer, or changes a byte.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from dataclasses import dataclass
from time import monotonic, time
from typing import Protocol

from onsembl.api.terminals.archiver import Archiver, StreamLog
from onsembl.api.terminals.sessions import FAILED
from onsembl.protocol.byte_times import ByteTimes, Marks
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.control import Control
from onsembl.protocol.ids import Epoch, StreamId
from onsembl.protocol.ring import Ring
from onsembl.protocol.stream import MAX_OFFSET, Inbox
from onsembl.protocol.terminal_modes import TerminalModes

logger = logging.getLogger(__name__)

VIEWER_FAILED = "A viewer failed by an internal error"
SAMPLED = 32
"""One chunk in this many is timed on its way to the viewers."""
MAX_SIZE_CHANGES = 256
"""Only the latest changes of size are kept; viewers that are further behind get a later size."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a pseudo-terminal, in cells."""

    columns: int
    rows: int


class Sizes:
    """The sizes of one stream's terminal, each from a byte offset on."""

    def __init__(self, start: int, size: Size) -> None:
        self._offsets = [start]
        self._sizes = [size]
        self.newest = size
        """The size from the last change on. That change may lie ahead of the bytes that have come."""

    def change(self, offset: int, size: Size) -> None:
        """Set the size from the byte at `offset` on, though never from before the last change."""
        self._offsets.append(max(offset, self._offsets[-1]))
        self._sizes.append(size)
        self.newest = size
        del self._offsets[:-MAX_SIZE_CHANGES], self._sizes[:-MAX_SIZE_CHANGES]

    def at(self, offset: int) -> Size:
        """The size at the byte at `offset`; the oldest known size if the byte is older."""
        return self._sizes[max(0, bisect_right(self._offsets, offset) - 1)]

    def next_change(self, offset: int) -> int | None:
        """The offset of the first change after `offset`; None when there is none."""
        index = bisect_right(self._offsets, offset)
        return self._offsets[index] if index < len(self._offsets) else None


@dataclass(frozen=True, slots=True)
class Sample:
    """The bytes below the offset `end` had arrived at the time `at`, by the monotonic clock."""

    end: int
    at: float


class TerminalSubscriber(Protocol):
    """A viewer, as the terminal sees it. Its methods may not wait. One that raises is closed."""

    def follow(self, start: int, data: bytes) -> None:
        """The ring has the new bytes `data`, of which the first is at `start`."""
        ...

    def wake(self) -> None:
        """Something other than bytes may have changed."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the viewer's connection with this code."""
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
        """Whether a viewer needs the program's screen drawn again, and the agent was offline when it was to be told."""
        self.epoch = Epoch(0)
        """The newest connection of the agent that this terminal knows. One under a later epoch is elsewhere."""
        self.inbox = Inbox(start)
        self._received_before, self._counted_from = 0, start
        self.begin(stream_id, start, size)

    def begin(self, stream_id: StreamId | None, start: int, size: Size) -> None:
        """Begin another stream, or the same stream at a later byte because this process has lost the bytes between.

        The archive has the stream up to `start`.
        """
        if self._log is not None:
            self._archiver.close(self._log)
        self._log = self._archiver.open(stream_id, start) if stream_id is not None else None
        self.stream_id = stream_id
        self.sample = None
        self._received_before, self._counted_from = self.received, start
        self.inbox = Inbox(start)
        self.ring = Ring(self._ring_bytes, start)
        self.modes = TerminalModes(start)
        self.times = ByteTimes()
        self.promised: int | None = None
        """The offset up to which the connected agent has bytes to send; None while the agent is offline."""
        self.refilled = start == 0
        """Whether the ring has every byte that it can hold. At first it lacks the bytes before `start`."""
        self.sizes = Sizes(start, size)
        self.wake()

    def end(self) -> None:
        """Leave the stream to another instance. The bytes that wait are still offered to the archive."""
        if self._log is not None:
            self._archiver.close(self._log)

    @property
    def size(self) -> Size:
        """The newest size that the agent has reported."""
        return self.sizes.newest

    @property
    def log(self) -> StreamLog:
        """The stream's way into the archive. There is one as soon as there is a stream."""
        assert self._log is not None
        return self._log

    @property
    def received(self) -> int:
        """New bytes that the agent has sent here, over all its streams. The number never falls."""
        return self._received_before + self.inbox.end - self._counted_from

    @property
    def upto(self) -> int:
        """The offset up to which a viewer may have seen the stream: it may have seen bytes, by way of another process,
        that have yet to come here."""
        return MAX_OFFSET if self.promised is None else max(self.promised, self.inbox.end)

    def ingest(self, offset: int, data: bytes) -> None:
        """Take bytes from the agent. Raises GapRejected or OffsetOutOfRange; no byte is taken then."""
        new = self.inbox.receive(offset, data)
        now = time()
        if new:
            start = self.ring.end
            self.times.note(start, now)
            self.ring.append(new)
            self._unsampled -= 1
            if self._unsampled < 0:
                self._unsampled = SAMPLED
                self.sample = Sample(self.inbox.end, monotonic())
            failed: list[TerminalSubscriber] = []
            for subscriber in self._subscribers:
                try:
                    subscriber.follow(start, new)
                except Exception:
                    logger.exception(VIEWER_FAILED, extra={"action": "viewer_failed"})
                    failed.append(subscriber)
            self._drop(failed)
            self.modes.feed(new)  # after the viewers, since it can wait
        # The archive may lack bytes that viewers have had, or have bytes before they came here.
        log = self.log
        log.backlog.offer(offset, data, now)
        if offset < log.backlog.start and log.on_archived is not None:
            log.on_archived()

    def fill(self, data: bytes, marks: Marks) -> None:
        """Append bytes from the archive, which had them by way of another process, with the marks of their times."""
        for offset, second in marks:
            self.times.note(offset, second)
        self.inbox.end += len(data)
        self._counted_from += len(data)
        self.ring.append(data)
        self.modes.feed(data)
        self.wake()

    def resize(self, size: Size, offset: int = 0) -> None:
        """Set the size of the pseudo-terminal from the byte at `offset` on, or from the next byte if that is later."""
        place = max(offset, self.inbox.end)
        self.log.resized(place, size.columns, size.rows)
        if size != self.size:
            self.sizes.change(place, size)
            self.wake()

    def subscribe(self, subscriber: TerminalSubscriber) -> None:
        """Call the subscriber whenever there is something new."""
        self._subscribers.add(subscriber)

    def unsubscribe(self, subscriber: TerminalSubscriber) -> None:
        """Call the subscriber no more."""
        self._subscribers.discard(subscriber)

    @property
    def viewers(self) -> int:
        """The number of subscribed viewers."""
        return len(self._subscribers)

    def wake(self) -> None:
        """Have every viewer look for changes other than bytes."""
        failed: list[TerminalSubscriber] = []
        for subscriber in self._subscribers:
            try:
                subscriber.wake()
            except Exception:
                logger.exception(VIEWER_FAILED, extra={"action": "viewer_failed"})
                failed.append(subscriber)
        self._drop(failed)

    def _drop(self, failed: list[TerminalSubscriber]) -> None:
        """End viewers whose methods have failed: they harm neither the agent nor the other viewers."""
        for subscriber in failed:
            self._subscribers.discard(subscriber)
            subscriber.close(CloseCode.INTERNAL_ERROR, FAILED)
