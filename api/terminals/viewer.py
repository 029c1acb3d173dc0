"""One viewer of a terminal: a cursor into the ring, which decides what to send next. No I/O."""

from __future__ import annotations

from onsembl.api.terminals.viewed_terminal import ViewedTerminal
from onsembl.protocol.byte_times import Marks
from onsembl.protocol.control import Client
from onsembl.protocol.ids import StreamId
from onsembl.protocol.keyboard_messages import Controlled, TerminalClient
from onsembl.protocol.messages import Attached, Gap, Message, Resized, StreamStarted, Times
from onsembl.protocol.ring import AttachAnswer, BehindRing, attach
from onsembl.protocol.stream import MAX_OFFSET

MAX_FRAME_BYTES = 64 * 1024
"""The largest frame to a viewer that is behind, so that its browser can draw between frames."""


CATCH_UP_BYTES = 8 * 1024 * 1024
"""A viewer that is further behind the ring than this gets a gap: nobody reads that much, and the wait would be long."""


def _terminal_client(client: Client) -> TerminalClient:
    return TerminalClient(client_id=client.id, name=client.name[:256])


def times_message(marks: Marks, exact_from: int) -> Times:
    """The message with these marks, of which those before `exact_from` may be too early."""
    offsets, seconds = [offset for offset, _ in marks], [second for _, second in marks]
    return Times(offsets=offsets, seconds=seconds, exact_from=exact_from)


class Viewer:
    """The place of one viewer in the stream, and what it was told. Memory does not grow with how far it is behind."""

    def __init__(
        self,
        terminal: ViewedTerminal,
        stream_id: StreamId | None,
        offset: int | None,
        *,
        archived: bool = False,
        timed: bool = False,
    ) -> None:
        """`archived`: the archive has the bytes from `offset` to the ring; the caller sends them with `advance`.
        `timed`: the viewer is told the times of the bytes."""
        self._terminal = terminal
        self._ring = terminal.ring
        self._stream_id = terminal.stream_id
        self._sizes = terminal.sizes
        self._times = terminal.times
        self.timed = timed
        self._told = -1 if timed else MAX_OFFSET  # the offset up to which the marks of times were sent
        self._control_version = terminal.control.version
        answer = attach(self._ring, self._stream_id, stream_id, offset, terminal.upto)
        if archived and answer.mode == "gap":
            assert offset is not None
            answer = AttachAnswer("exact", offset)
        self._offset = answer.offset
        self._size = self._sizes.at(self._offset)
        self.attached = Attached(
            stream_id=self._stream_id,
            mode=answer.mode,
            offset=self._offset,
            columns=self._size.columns,
            rows=self._size.rows,
            modes="" if answer.mode == "exact" else terminal.modes.at(self._offset),
        )

    @property
    def lacks(self) -> tuple[int, int] | None:
        """The range of bytes that this viewer has not been sent and that the ring no longer has; None if there is
        none, or if they are too many to catch up."""
        start = self._ring.start
        if self._ring is self._terminal.ring and start - CATCH_UP_BYTES <= self._offset < start:
            return self._offset, start
        return None

    @property
    def offset(self) -> int:
        """The offset of the first byte that the viewer has not been sent."""
        return self._offset

    def advance(self, count: int) -> None:
        """The viewer was sent this many bytes from the archive."""
        self._offset += count

    def controlled(self) -> Controlled:
        """The message that tells the viewer who controls the terminal now."""
        control = self._terminal.control
        self._control_version = control.version
        return Controlled(
            controller=_terminal_client(control.controller) if control.controller is not None else None,
            waiting=[_terminal_client(client) for client in control.waiting],
        )

    def follow(self, start: int, data: bytes) -> bool:
        """Move past `data`, which the ring has just got at `start`, if the viewer lacks nothing else; False otherwise.

        It does for a viewer that keeps up what `next` does, in a tenth of the time.
        """
        if (
            self._offset != start
            or len(data) > MAX_FRAME_BYTES
            or self._size is not self._sizes.newest
            or self._control_version != self._terminal.control.version
            or self._told < self._times.newest
            or self._ring is not self._terminal.ring
        ):
            return False
        self._offset = start + len(data)
        return True

    def due_times(self, start: int) -> Times | None:
        """The times that this viewer lacks, if it has all bytes before `start`: they go before `follow`, in the same
        turn, so that the first bytes of a second are not slower than others."""
        if self._told >= self._times.newest or self._offset != start or self._ring is not self._terminal.ring:
            return None
        return self._new_times()

    def next(self, most: int = MAX_FRAME_BYTES) -> bytes | Message | None:
        """The next frame, a message or at most `most` terminal bytes; None when the viewer has everything, or when
        bytes are next and `most` is 0. A change of control comes first."""
        if self._control_version != self._terminal.control.version:
            return self.controlled()
        if self._told < self._times.newest:
            return self._new_times()
        limit = min(most, MAX_FRAME_BYTES)
        if self._size is not self._sizes.newest:
            if (resized := self._resized()) is not None:
                return resized
            if (change := self._sizes.next_change(self._offset)) is not None:
                limit = min(limit, change - self._offset)
        if self._offset < self._ring.end:
            return self._next_bytes(limit) if limit else None
        return self._move_on(most) if self._ring is not self._terminal.ring else None

    def _new_times(self) -> Times:
        """The marks that this viewer lacks: at first also that of its next byte, which is older."""
        marks = self._times.marks(self._offset) if self._told < 0 else self._times.later(self._told)
        self._told = self._times.newest
        return times_message(marks, self._times.exact_from)

    def _resized(self) -> Resized | None:
        """The change of size before the next byte, if there is one."""
        size, told = self._sizes.at(self._offset), self._size
        self._size = size
        return Resized(columns=size.columns, rows=size.rows) if size != told else None

    def _next_bytes(self, limit: int) -> bytes | Message:
        try:
            data = self._ring.read(self._offset, limit)
        except BehindRing as behind:
            return self._skip_to(behind.start)
        self._offset += len(data)
        return data

    def _skip_to(self, offset: int) -> Gap:
        missing = offset - self._offset
        self._offset = offset
        return Gap(offset=offset, missing=missing, modes=self._terminal.modes.at(offset))

    def _move_on(self, most: int) -> bytes | Message | None:
        """Go on with the terminal's new ring, since the old one is read to its end."""
        terminal = self._terminal
        same_stream = self._stream_id == terminal.stream_id
        self._ring, self._stream_id = terminal.ring, terminal.stream_id
        self._sizes, self._times = terminal.sizes, terminal.times
        if same_stream:
            return self._skip_to(self._ring.start) if self._offset < self._ring.start else self.next(most)
        self._offset = self._ring.start
        self._size = self._sizes.at(self._offset)
        if self.timed:
            self._told = -1
        assert self._stream_id is not None, "a terminal that has begun again has a stream"
        return StreamStarted(
            stream_id=self._stream_id, offset=self._offset, columns=self._size.columns, rows=self._size.rows
        )
