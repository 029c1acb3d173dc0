"""The terminal of an agent that is connected to this process, or to none: the stream that comes in, and its archive.

This is the path of terminal bytes. Nothing on it waits for a database or for another viewer, or changes a byte.
"""

from __future__ import annotations

import asyncio
from time import time

from onsembl.api.terminals.archiver import Archiver, StreamLog
from onsembl.api.terminals.viewed_terminal import Size, ViewedTerminal
from onsembl.protocol.byte_times import Marks
from onsembl.protocol.ids import StreamId
from onsembl.protocol.stream import MAX_OFFSET, Inbox


class Terminal(ViewedTerminal):
    """The newest stream of one agent. It outlives the agent's connection, so viewers stay attached."""

    def __init__(self, ring_bytes: int, archiver: Archiver, stream_id: StreamId | None, start: int, size: Size) -> None:
        super().__init__(ring_bytes, stream_id, start, size)
        self._archiver = archiver
        self._log: StreamLog | None = None
        self.refilling = asyncio.Lock()
        self.redraw_due = False
        """Whether a viewer needs the program's screen drawn again, and the agent was offline when it was to be told."""
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
        self._received_before, self._counted_from = self.received, start
        self.inbox = Inbox(start)
        self._set_stream(stream_id, start, size)
        self.promised: int | None = None
        """The offset up to which the connected agent has bytes to send; None while the agent is offline."""
        self.refilled = start == 0
        """Whether the ring has every byte that it can hold. At first it lacks the bytes before `start`."""
        self.wake()

    def end(self) -> None:
        """Leave the stream to another instance. The bytes that wait are still offered to the archive."""
        if self._log is not None:
            self._archiver.close(self._log)
        super().end()

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

    def unarchived(self, start: int, count: int) -> bytes:
        """Bytes from `start` on that wait here for the archive; empty when they do not."""
        return self.log.backlog.read(start, count)

    def comes_again(self, start: int) -> bool:
        """Whether the agent will send the bytes from `start` on again, because the archive was full."""
        return self.promised is not None and self.log.backlog.end <= start < self.ring.start

    def ingest(self, offset: int, data: bytes) -> None:
        """Take bytes from the agent. Raises GapRejected or OffsetOutOfRange; no byte is taken then."""
        new = self.inbox.receive(offset, data)
        now = time()
        if new:
            self.times.note(self.ring.end, now)
            self._append(new, self.inbox.end)
        # The archive may lack bytes that viewers have had, or have bytes before they came here.
        log = self.log
        log.backlog.offer(offset, data, now)
        if offset < log.backlog.start and log.on_archived is not None:
            log.on_archived()

    def fill(self, data: bytes, marks: Marks, exact_from: int) -> None:
        """Append bytes from the archive, which had them by way of another process, with the marks of their times, of
        which those before `exact_from` may be too early."""
        self.times.extend(marks, exact_from)
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
