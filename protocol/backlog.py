"""The bytes of one stream that the archive does not have yet, in bounded memory. No I/O and no clock.

A backlog is offered all bytes of its stream and delays nobody: while it is full, it does not keep them. Later it asks
the sender for them again, who keeps unacknowledged bytes; receivers trim bytes that come twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class MemoryBudget:
    """The memory that all backlogs of a process share, in bytes."""

    limit: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive chunks of a stream, the first byte of which is at `start`, with the time of each (Unix time)."""

    start: int
    chunks: list[bytes]
    times: list[float]


class Backlog:
    """Bytes from `start`, the known end of the archive, up to `end`.

    `on_first_bytes` is called when bytes come into the empty backlog.
    """

    __slots__ = ("_budget", "_chunks", "_limit", "_times", "end", "missed", "on_first_bytes", "start")

    def __init__(self, start: int, limit: int, budget: MemoryBudget, on_first_bytes: Callable[[], None]) -> None:
        self._limit = limit
        self._budget = budget
        self._chunks: list[bytes] = []
        self._times: list[float] = []
        self.on_first_bytes = on_first_bytes
        self.start = start
        """The bytes below it are archived."""
        self.end = start
        """The offset of the next byte that the backlog takes."""
        self.missed = False
        """Whether bytes from `end` on were offered and not kept."""

    @property
    def size(self) -> int:
        """The number of bytes in the backlog."""
        return self.end - self.start

    @property
    def full(self) -> bool:
        """Whether the next bytes are not kept."""
        return self.end - self.start >= self._limit or self._budget.used >= self._budget.limit

    def offer(self, offset: int, data: bytes, at: float) -> None:
        """Keep the new ones of these bytes if there is room; the first is at `offset`."""
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
        """The oldest bytes: at least one chunk and at most about `limit` bytes; None when the backlog is empty."""
        size = count = 0
        for chunk in self._chunks:
            if count and size + len(chunk) > limit:
                break
            size += len(chunk)
            count += 1
        return Batch(self.start, self._chunks[:count], self._times[:count]) if count else None

    def read(self, offset: int, limit: int) -> bytes:
        """Bytes from `offset` on, at most `limit`; none when the byte at `offset` is not in the backlog."""
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
        """Drop the bytes below `upto`, which the archive has. `upto` may be past `end`, if another process archived."""
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
        """Drop everything, and go on at `offset`."""
        self._budget.used -= self.end - self.start
        self._chunks.clear()
        self._times.clear()
        self.start = self.end = offset
        self.missed = False

    def resend_offset(self) -> int | None:
        """The offset from which the sender should send again; None when no byte was missed or there is no room yet."""
        if not self.missed or self._chunks or self._budget.used > self._budget.limit // 2:
            return None
        self.missed = False
        return self.end
