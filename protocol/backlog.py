"""The bytes of one stream that an archive does not have yet, in bounded memory. No I/O and no clock.

It takes what goes by on its way to viewers, and holds nobody up: when it is full, bytes go by that it does not keep.
It then asks the sender for them again, who keeps all that is not acknowledged; whoever sees them twice trims them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class MemoryBudget:
    """What all backlogs of a process may hold together, in bytes."""

    limit: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of bytes, as they came: `chunks`, the first byte of which is at `start`, and when each came (Unix time)."""

    start: int
    chunks: list[bytes]
    times: list[float]


class Backlog:
    """Bytes from `start`, where the archive ends as far as is known here, up to `end`.

    `on_first_bytes` is called when it gets its first bytes.
    """

    __slots__ = ("_budget", "_chunks", "_limit", "_times", "end", "missed", "on_first_bytes", "start")

    def __init__(self, start: int, limit: int, budget: MemoryBudget, on_first_bytes: Callable[[], None]) -> None:
        self._limit = limit
        self._budget = budget
        self._chunks: list[bytes] = []
        self._times: list[float] = []
        self.on_first_bytes = on_first_bytes
        self.start = start
        """Bytes below are archived."""
        self.end = start
        """The next byte that it takes."""
        self.missed = False
        """Whether bytes from `end` on have gone by."""

    @property
    def size(self) -> int:
        """Bytes held."""
        return self.end - self.start

    @property
    def full(self) -> bool:
        """Whether what comes next is not kept."""
        return self.end - self.start >= self._limit or self._budget.used >= self._budget.limit

    def offer(self, offset: int, data: bytes, at: float) -> None:
        """Bytes go by, the first at `offset`: those that are new here are kept, if there is room."""
        end = self.end
        if offset != end:
            if offset > end:
                self.missed = True
                return
            data = data[end - offset :]
            if not data:
                return
        if self.full:
            self.missed = True
            return
        if not self._chunks:
            self.on_first_bytes()
        self._chunks.append(data)
        self._times.append(at)
        self.end = end + len(data)
        self._budget.used += len(data)

    def next_batch(self, limit: int) -> Batch | None:
        """The oldest bytes, at least one chunk and about `limit` bytes at most; None when there are none."""
        size = count = 0
        for chunk in self._chunks:
            if count and size + len(chunk) > limit:
                break
            size += len(chunk)
            count += 1
        return Batch(self.start, self._chunks[:count], self._times[:count]) if count else None

    def read(self, offset: int, limit: int) -> bytes:
        """Bytes from `offset` on that wait here, at most `limit`; none when they do not."""
        if not self.start <= offset < self.end:
            return b""
        parts: list[bytes] = []
        place = self.start
        for chunk in self._chunks:
            if place + len(chunk) > offset and limit > 0:
                skip = max(0, offset - place)
                part = chunk[skip : skip + limit]
                parts.append(part)
                limit -= len(part)
            place += len(chunk)
        return b"".join(parts)

    def mark_archived(self, upto: int) -> None:
        """The archive has all below `upto`, by whosever doing; it may have more than is here."""
        if upto > self.end:
            self.restart(upto)
            return
        left = upto - self.start
        if left <= 0:
            return
        self._budget.used -= left
        self.start = upto
        count = 0
        for chunk in self._chunks:
            if len(chunk) > left:
                break
            left -= len(chunk)
            count += 1
        del self._chunks[:count]
        del self._times[:count]
        if left:
            self._chunks[0] = self._chunks[0][left:]

    def restart(self, offset: int) -> None:
        """Hold nothing, and go on at `offset`."""
        self._budget.used -= self.end - self.start
        self._chunks.clear()
        self._times.clear()
        self.start = self.end = offset
        self.missed = False

    def resend_offset(self) -> int | None:
        """The offset that the sender should go back to; None when nothing was missed or there is no room for it yet."""
        if not self.missed or self._chunks or self._budget.used > self._budget.limit // 2:
            return None
        self.missed = False
        return self.end
