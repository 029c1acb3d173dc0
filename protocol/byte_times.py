"""When the bytes of a stream were received, in bounded memory: one mark for each second with output, of older bytes one
for several seconds. No I/O."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

MAX_MARKS = 4096
"""The most marks of one stream. They take 64 KiB."""
Marks = list[tuple[int, int]]
"""Offsets, and the second (Unix time) in which the bytes from each on were received."""
UNKNOWN = 0
"""The second of bytes whose time is no longer known."""


class ByteTimes:
    """The seconds (Unix time) in which the bytes of a stream were received, each from an offset on.

    When there are too many marks, the older half is thinned out to half of them: the seconds of its bytes are too early
    by less than twice `step`, which doubles when it must. The newer half is exact.
    """

    __slots__ = ("_offsets", "_second", "_seconds", "exact_from", "newest", "step")

    def __init__(self) -> None:
        self._offsets = array("q")
        self._seconds = array("q")
        self._second = -1
        self.newest = -1
        """The offset of the newest mark; -1 while there is none."""
        self.exact_from = 0
        """The seconds of the bytes before this offset may be too early."""
        self.step = 1

    def note(self, offset: int, at: float) -> None:
        """The byte at `offset`, the next of the stream, was received at `at` (Unix time)."""
        second = int(at)
        if second == self._second:
            return
        self._second, self.newest = second, offset
        self._offsets.append(offset)
        self._seconds.append(second)
        if len(self._offsets) > MAX_MARKS:
            self._thin()

    def extend(self, marks: Marks, exact_from: int) -> None:
        """Add the marks of the next bytes of the stream, of which those before `exact_from` may be too early."""
        for offset, second in marks:
            self.note(offset, second)
        self.exact_from = max(self.exact_from, exact_from)

    def prepend(self, marks: Marks, exact_from: int = 0) -> None:
        """Add the marks of earlier bytes, of which those before `exact_from` may be too early."""
        self._offsets[:0] = array("q", [offset for offset, _ in marks])
        self._seconds[:0] = array("q", [second for _, second in marks])
        self.exact_from = max(self.exact_from, exact_from)
        if self.newest < 0 and marks:
            self.newest, self._second = marks[-1]
        while len(self._offsets) > MAX_MARKS:
            self._thin()

    def _thin(self) -> None:
        """Leave out marks of the older half that are less than `step` seconds after one that is kept."""
        half = len(self._offsets) // 2
        while len(kept := self._apart(half)) > half // 2:
            self.step *= 2
        self.exact_from = max(self.exact_from, self._offsets[half])
        self._offsets[:half] = array("q", [self._offsets[at] for at in kept])
        self._seconds[:half] = array("q", [self._seconds[at] for at in kept])

    def _apart(self, end: int) -> list[int]:
        """The first of these marks, and each that is `step` seconds or more from the one before it."""
        kept = [0]
        for at in range(1, end):
            if abs(self._seconds[at] - self._seconds[kept[-1]]) >= self.step:
                kept.append(at)
        return kept

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
