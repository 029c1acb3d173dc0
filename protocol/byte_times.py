"""When the bytes of a stream were received: one mark for each second with output, in bounded memory. No I/O."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

MAX_MARKS = 4096
"""The most marks of one stream; the oldest are dropped. They take 64 KiB."""
Marks = list[tuple[int, int]]
"""Offsets, and the second (Unix time) in which the bytes from each on were received."""
UNKNOWN = 0
"""The second of bytes whose time is no longer known."""


class ByteTimes:
    """The seconds (Unix time) in which the bytes of a stream were received, each from an offset on."""

    __slots__ = ("_offsets", "_second", "_seconds", "newest")

    def __init__(self) -> None:
        self._offsets = array("q")
        self._seconds = array("q")
        self._second = -1
        self.newest = -1
        """The offset of the newest mark; -1 while there is none."""

    def note(self, offset: int, at: float) -> None:
        """The byte at `offset`, the next of the stream, was received at `at` (Unix time)."""
        second = int(at)
        if second == self._second:
            return
        self._second, self.newest = second, offset
        self._offsets.append(offset)
        self._seconds.append(second)
        if len(self._offsets) > MAX_MARKS:
            del self._offsets[: MAX_MARKS // 8], self._seconds[: MAX_MARKS // 8]

    def prepend(self, marks: Marks) -> None:
        """Add the marks of earlier bytes, as far as there is room."""
        room = MAX_MARKS - len(self._offsets)
        earlier = marks[-room:] if room > 0 else []
        self._offsets[:0] = array("q", [offset for offset, _ in earlier])
        self._seconds[:0] = array("q", [second for _, second in earlier])
        if self.newest < 0 and earlier:
            self.newest, self._second = earlier[-1]

    def marks(self, start: int, end: int | None = None) -> Marks:
        """The marks for the bytes from `start` on, below `end`: the first is at `start`, and may be of an UNKNOWN
        second."""
        first = bisect_right(self._offsets, start)
        upto = len(self._offsets) if end is None else bisect_left(self._offsets, end)
        at_start = self._seconds[first - 1] if first else UNKNOWN
        later = zip(self._offsets[first:upto], self._seconds[first:upto], strict=True)
        return [(start, at_start), *later]

    def later(self, offset: int) -> Marks:
        """The marks after `offset`."""
        first = bisect_right(self._offsets, offset)
        return list(zip(self._offsets[first:], self._seconds[first:], strict=True))
