"""The bytes of one terminal, exactly once and in order, over links that break: the receiver and the errors.

Every byte has an absolute offset. The sender keeps the bytes that are not acknowledged; the receiver trims bytes that
it has seen and rejects a gap; a new connection resumes at the receiver's end. No I/O and no clock.

    StreamError
    ├── GapRejected           bytes that begin past the receiver's end
    ├── OffsetOutOfRange      bytes that would end past the largest offset
    ├── AcknowledgedUnsent    the receiver acknowledges bytes that were never sent
    └── CannotResume          the sender does not hold the byte at the receiver's end
"""

from __future__ import annotations

MAX_OFFSET = 2**63 - 1


class StreamError(Exception):
    """Sender and receiver disagree about the stream."""


class GapRejected(StreamError):
    """Bytes are missing before the ones that came."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"expected offset {expected} or less, got {got}")
        self.expected, self.got = expected, got


class OffsetOutOfRange(StreamError):
    """The stream would be too long."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"offset {offset} is out of range")


class AcknowledgedUnsent(StreamError):
    """Bytes were acknowledged that were never sent."""

    def __init__(self, offset: int, sent: int) -> None:
        super().__init__(f"acknowledged up to {offset}, but only {sent} were sent")


class CannotResume(StreamError):
    """The receiver asks for bytes that the sender no longer holds, or never had."""

    def __init__(self, offset: int, start: int, end: int) -> None:
        super().__init__(f"cannot resume at {offset}: the bytes held are {start} to {end}")


class Inbox:
    """The receiver of a stream: takes each byte once, in order."""

    __slots__ = ("end",)

    def __init__(self, start: int = 0) -> None:
        self.end = start
        """The offset of the next new byte."""

    def receive(self, offset: int, data: bytes) -> bytes:
        """Return the bytes of `data` that are new: all of them (the same object), a tail, or none.

        Raises GapRejected or OffsetOutOfRange; then nothing has changed.
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
