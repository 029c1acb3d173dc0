"""One viewer of a terminal: a cursor into the ring, and what to send next. No I/O."""

from __future__ import annotations

from onsembl.api.terminals.terminal import Terminal
from onsembl.protocol.control import Client
from onsembl.protocol.ids import StreamId
from onsembl.protocol.keyboard_messages import Controlled, TerminalClient
from onsembl.protocol.messages import Attached, Gap, Message, Resized, StreamStarted
from onsembl.protocol.ring import AttachAnswer, BehindRing, attach

MAX_FRAME_BYTES = 64 * 1024
"""A slow viewer gets what it missed in frames of at most this size, so that its browser can draw between them."""


def _writer(client: Client) -> TerminalClient:
    return TerminalClient(client_id=client.id, name=client.name[:256])


class Viewer:
    """Where one viewer is, and what it has been told. Memory does not grow with how far it is behind."""

    def __init__(
        self, terminal: Terminal, stream_id: StreamId | None, offset: int | None, *, archived: bool = False
    ) -> None:
        """`archived` when the bytes between `offset` and the ring are to be had from the archive (`took`)."""
        self._terminal = terminal
        self._ring = terminal.ring
        self._stream_id = terminal.stream_id
        self._sizes = terminal.sizes
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
        """The offsets of the bytes that this viewer has not had and that the ring does not have either; None when there
        are none."""
        if self._ring is self._terminal.ring and self._offset < self._ring.start:
            return self._offset, self._ring.start
        return None

    @property
    def offset(self) -> int:
        """The first byte that the viewer has not been given."""
        return self._offset

    def took(self, count: int) -> None:
        """The viewer was given so many bytes, out of the archive."""
        self._offset += count

    def controlled(self) -> Controlled:
        """Who types, as the viewer is told now."""
        control = self._terminal.control
        self._control_version = control.version
        return Controlled(
            controller=_writer(control.controller) if control.controller is not None else None,
            waiting=[_writer(client) for client in control.waiting],
        )

    def follow(self, start: int, data: bytes) -> bool:
        """Whether `data`, which begins at `start` and which the ring has just got, is all that this viewer lacks. It
        has been given it then; what `next` would be for one that keeps up, in a tenth of the time."""
        if (
            self._offset != start
            or len(data) > MAX_FRAME_BYTES
            or self._size is not self._sizes.newest
            or self._control_version != self._terminal.control.version
            or self._ring is not self._terminal.ring
        ):
            return False
        self._offset = start + len(data)
        return True

    def next(self) -> bytes | Message | None:
        """The next frame: terminal bytes or a message; None when the viewer has everything. Who types is said first."""
        if self._control_version != self._terminal.control.version:
            return self.controlled()
        limit = MAX_FRAME_BYTES
        if self._size is not self._sizes.newest:
            if (resized := self._resized()) is not None:
                return resized
            if (change := self._sizes.next_change(self._offset)) is not None:
                limit = min(limit, change - self._offset)
        if self._offset < self._ring.end:
            return self._next_bytes(limit)
        return self._move_on() if self._ring is not self._terminal.ring else None

    def _resized(self) -> Resized | None:
        """What the viewer is to be told before the next byte, if the size has changed there."""
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

    def _move_on(self) -> bytes | Message | None:
        """The old ring is read to its end: on to the one that took its place."""
        terminal = self._terminal
        same_stream = self._stream_id == terminal.stream_id
        self._ring, self._stream_id, self._sizes = terminal.ring, terminal.stream_id, terminal.sizes
        if same_stream:
            return self._skip_to(self._ring.start) if self._offset < self._ring.start else self.next()
        self._offset = self._ring.start
        self._size = self._sizes.at(self._offset)
        assert self._stream_id is not None, "a terminal that has begun again has a stream"
        return StreamStarted(
            stream_id=self._stream_id, offset=self._offset, columns=self._size.columns, rows=self._size.rows
        )
