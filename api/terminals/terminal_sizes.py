"""The size of a terminal, which changes between two of its bytes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

MAX_CHANGES = 256
"""The latest; viewers who are further behind get what came later."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a pseudo-terminal, in cells."""

    columns: int
    rows: int


class Sizes:
    """Which size a stream's terminal has from which of its bytes on."""

    def __init__(self, start: int, size: Size) -> None:
        self._offsets = [start]
        self._sizes = [size]
        self.newest = size
        """The size from the last change on, which may lie ahead of the bytes that are here."""

    def change(self, offset: int, size: Size) -> None:
        """From the byte at `offset` on it is this; never from an earlier one than the last change."""
        self._offsets.append(max(offset, self._offsets[-1]))
        self._sizes.append(size)
        self.newest = size
        del self._offsets[:-MAX_CHANGES], self._sizes[:-MAX_CHANGES]

    def at(self, offset: int) -> Size:
        """The size for the byte at `offset`; before all that is known, the first that is."""
        return self._sizes[max(0, bisect_right(self._offsets, offset) - 1)]

    def next_change(self, offset: int) -> int | None:
        """Where the first change after `offset` is; None when there is none."""
        index = bisect_right(self._offsets, offset)
        return self._offsets[index] if index < len(self._offsets) else None
