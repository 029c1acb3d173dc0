"""One terminal's bytes between two parties, exactly once and in order, over links that come and go.

Every byte has an absolute offset. The sender keeps what is not acknowledged; the receiver trims what it has seen and
refuses a gap; a new link resumes at the receiver's end. No I/O and no clock.

    StreamError
    ├── GapRejected            bytes that begin past the receiver's end
    ├── OffsetOutOfRange      bytes that would end past the largest offset
    ├── AcknowledgedUnsent    the receiver claims bytes that were never sent
    └── CannotResume          the receiver's end is not among the bytes that the sender holds
"""

from __future__ import annotations

from collections import deque
from uuid import UUID

MAX_OFFSET = 2**63 - 1


class StreamError(Exception):
    """The two parties do not agree on the stream."""


class GapRejected(StreamError):
    """Bytes are missing between what was received and what came."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"expected offset {expected} or less, got {got}")
        self.expected, self.got = expected, got


class OffsetOutOfRange(StreamError):
    """The stream cannot be that long."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"offset {offset} is out of range")


class AcknowledgedUnsent(StreamError):
    """An acknowledgement of bytes that do not exist."""

    def __init__(self, offset: int, sent: int) -> None:
        super().__init__(f"acknowledged up to {offset}, but only {sent} were sent")


class CannotResume(StreamError):
    """The receiver wants bytes that the sender no longer holds or never made."""

    def __init__(self, offset: int, start: int, end: int) -> None:
        super().__init__(f"cannot resume at {offset}: the bytes held are {start} to {end}")


class Inbox:
    """The receiver: takes each byte once, in order."""

    __slots__ = ("end",)

    def __init__(self, start: int = 0) -> None:
        self.end = start
        """The offset of the next new byte."""

    def receive(self, offset: int, data: bytes) -> bytes:
        """The bytes of `data` that are new: all of them (the same object), a tail, or none.

        Raises GapRejected or OffsetOutOfRange, and then nothing has changed.
        """
        end = self.end
        if offset > end:
            raise GapRejected(end, offset)
        upto = offset + len(data)
        if upto > MAX_OFFSET:
            raise OffsetOutOfRange(upto)
        if upto <= end:
            return b""
        self.end = upto
        return data if offset == end else data[end - offset :]


class Outbox:
    """The sender: numbers bytes and keeps them until they are acknowledged, `capacity` bytes at most.

    The bound is kept by the caller, who stops reading its source while `full`: `append` takes all it is given.
    """

    def __init__(self, capacity: int, start: int = 0) -> None:
        self._capacity = capacity
        self._chunks: deque[bytes] = deque()  # the bytes from `_first` on
        self._first = start  # offset of the first byte of the first chunk
        self._cursor = 0  # index of the chunk that holds the next byte to send
        self._cursor_offset = start  # offset of that chunk's first byte
        self.start = start
        """The oldest byte that is kept."""
        self.sent = start
        """The next byte to send."""
        self.end = start
        """The offset that the next appended byte gets."""
        self._reached = start  # what was sent once, over whatever link, is below
        self.stream_id: UUID | None = None
        """The stream that the bytes are of; None before there was one."""

    @property
    def full(self) -> bool:
        """Whether the source should wait."""
        return self.end - self.start >= self._capacity

    @property
    def free(self) -> int:
        """Bytes that may come before it is full."""
        return max(0, self._capacity - (self.end - self.start))

    @property
    def unsent(self) -> int:
        """Bytes that have not been sent over the present link."""
        return self.end - self.sent

    def append(self, data: bytes) -> int:
        """Number and keep these bytes; the new end. Small pieces are joined, so that many cost no more than few."""
        if data:
            last_is_open = len(self._chunks) > self._cursor + 1 or (
                len(self._chunks) > self._cursor and self.sent == self._cursor_offset
            )
            if last_is_open and len(self._chunks[-1]) + len(data) <= _JOIN_BYTES:
                self._chunks[-1] += data
            else:
                self._chunks.append(bytes(data))
            self.end += len(data)
        return self.end

    def next_frame(self, limit: int) -> tuple[int, bytes] | None:
        """`(offset, data)` of the next bytes to send, at most `limit`; None when all are sent."""
        if self.sent == self.end:
            return None
        offset = self.sent
        parts: list[bytes] = []
        room = limit
        while room > 0 and self._cursor < len(self._chunks):
            chunk = self._chunks[self._cursor]
            skip = self.sent - self._cursor_offset
            piece = chunk[skip : skip + room] if skip or len(chunk) > room else chunk
            parts.append(piece)
            room -= len(piece)
            self.sent += len(piece)
            if skip + len(piece) == len(chunk):
                self._cursor += 1
                self._cursor_offset += len(chunk)
        self._reached = max(self._reached, self.sent)
        return offset, parts[0] if len(parts) == 1 else b"".join(parts)

    def acknowledge(self, offset: int) -> None:
        """The receiver keeps all bytes below `offset`. One that is behind changes nothing. Raises AcknowledgedUnsent.

        It may be ahead of what was sent over this link: the receiver has it from the one before.
        """
        if offset > self._reached:
            raise AcknowledgedUnsent(offset, self._reached)
        if offset > self.sent:
            self.resume(offset)
        self._forget(offset)

    def resume(self, offset: int) -> None:
        """Send from `offset` on, where the receiver's bytes end. Raises CannotResume.

        It has not said that it keeps them: that is what an acknowledgement says.
        """
        if not self.start <= offset <= self.end:
            raise CannotResume(offset, self.start, self.end)
        self.sent = offset
        self._reached = max(self._reached, offset)
        self._cursor, self._cursor_offset = 0, self._first
        while self._cursor < len(self._chunks) and self._cursor_offset + len(self._chunks[self._cursor]) <= offset:
            self._cursor_offset += len(self._chunks[self._cursor])
            self._cursor += 1

    def began(self, stream_id: UUID) -> None:
        """The bytes are of this stream. Of another than before: what was not acknowledged is the beginning of it."""
        if self.stream_id not in (None, stream_id):
            self._renumber()
        self.stream_id = stream_id

    def _renumber(self) -> None:
        shift = self.start
        skip = self.start - self._first
        if skip and self._chunks:
            self._chunks[0] = self._chunks[0][skip:]
        self._first = self._cursor = self._cursor_offset = 0
        self.start = self.sent = self._reached = 0
        self.end -= shift

    def _forget(self, offset: int) -> None:
        if offset <= self.start:
            return
        self.start = offset
        while self._chunks and self._first + len(self._chunks[0]) <= offset:
            self._first += len(self._chunks.popleft())
            if self._cursor:
                self._cursor -= 1
            else:
                self._cursor_offset = self._first


_JOIN_BYTES = 16 * 1024
"""Pieces are joined up to this size while they wait."""
