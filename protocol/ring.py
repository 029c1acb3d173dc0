"""The newest bytes of a stream, in bounded memory, read by any number of viewers at offsets of their own.

A viewer is an offset, never a queue: its unread bytes take no memory beside the ring, and a slow viewer reads many
chunks as one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from uuid import UUID

from onsembl.protocol.messages import AttachMode

DEFAULT_CAPACITY = 2 * 1024 * 1024
_BLOCK_BYTES = 32 * 1024
_PIECE_BYTES = 64 * 1024
"""Longer chunks are cut, because only whole chunks leave the ring."""
_COMPACT_AFTER = 64


class BehindRing(Exception):
    """The requested bytes have left the ring, which now begins at `start`."""

    def __init__(self, start: int) -> None:
        super().__init__(f"the ring begins at {start}")
        self.start = start


class Ring:
    """The tail of a stream: its last `capacity` bytes, and hardly more.

    New chunks are kept as they came, so a viewer that keeps up gets the very object that was appended. Older chunks are
    joined into blocks, so that many single bytes take no more memory than one large chunk.
    """

    __slots__ = ("_capacity", "_chunks", "_joined", "_last_data", "_last_read", "_offsets", "_removed", "end")

    def __init__(self, capacity: int = DEFAULT_CAPACITY, start: int = 0) -> None:
        self._capacity = capacity
        self._chunks: list[bytes] = []
        self._offsets: list[int] = []  # of each chunk's first byte
        self._removed = 0  # chunks at the front that are no longer in the ring
        self._joined = 0  # chunks below this index are blocks
        self.end = start
        """The offset of the next byte that is appended."""
        self._last_read = (-1, -1, 0)  # offset, end and limit, and what was joined for them
        self._last_data = b""

    @property
    def start(self) -> int:
        """The offset of the oldest byte in the ring."""
        return self._offsets[self._removed] if self._removed < len(self._offsets) else self.end

    @property
    def room(self) -> int:
        """How many bytes `prepend` may take; none once the ring was full."""
        return max(0, self._capacity - (self.end - self.start))

    def prepend(self, data: bytes) -> None:
        """Add the bytes just before the oldest one, at most `room`; they are older than this ring."""
        self._drop_removed()
        start = self.start
        blocks = [data[at : at + _BLOCK_BYTES] for at in range(0, len(data), _BLOCK_BYTES)]
        offsets = [start - len(data) + at for at in range(0, len(data), _BLOCK_BYTES)]
        self._chunks[:0] = blocks
        self._offsets[:0] = offsets
        self._joined += len(blocks)

    def append(self, data: bytes) -> None:
        """Add the next bytes of the stream; the oldest bytes leave."""
        if len(data) > self._capacity:
            self.end += len(data) - self._capacity
            data = data[-self._capacity :]
            self._chunks.clear()
            self._offsets.clear()
            self._removed = self._joined = 0
        if len(data) <= _PIECE_BYTES:
            self._append(data)
            return
        for at in range(0, len(data), _PIECE_BYTES):
            self._append(data[at : at + _PIECE_BYTES])

    def _append(self, data: bytes) -> None:
        self._chunks.append(data)
        self._offsets.append(self.end)
        self.end += len(data)
        if len(self._chunks) - self._joined > _COMPACT_AFTER * 2:
            self._join()
        offsets = self._offsets
        floor = self.end - self._capacity
        # A chunk leaves when the ring is full without it.
        while self._removed + 1 < len(offsets) and offsets[self._removed + 1] <= floor:
            self._chunks[self._removed] = b""
            self._removed += 1
        if self._removed > _COMPACT_AFTER:
            self._drop_removed()

    def read(self, offset: int, limit: int) -> bytes:
        """Bytes from `offset` on, at most `limit`; empty only at the end.

        Raises BehindRing, and ValueError for an offset past the end.
        """
        offsets = self._offsets
        if offset >= self.end:
            if offset > self.end:
                raise ValueError(f"offset {offset} is past the end, {self.end}")
            return b""
        if not offsets:
            raise BehindRing(self.end)
        # A viewer that keeps up reads the last chunk.
        index = len(offsets) - 1
        if offset != offsets[index]:
            if offset < offsets[self._removed]:
                raise BehindRing(offsets[self._removed])
            index = bisect_right(offsets, offset) - 1
        skip = offset - offsets[index]
        chunk = self._chunks[index]
        if skip or len(chunk) > limit:
            chunk = chunk[skip : skip + limit]
        if len(chunk) == limit or index + 1 == len(offsets):
            return chunk
        # Viewers that read the same range get the same object.
        if (offset, self.end, limit) == self._last_read:
            return self._last_data
        parts = [chunk]
        room = limit - len(chunk)
        for following in self._chunks[index + 1 :]:
            if len(following) >= room:
                parts.append(following[:room])
                break
            parts.append(following)
            room -= len(following)
        self._last_read, self._last_data = (offset, self.end, limit), b"".join(parts)
        return self._last_data

    def _join(self) -> None:
        """Join the older half of the small chunks into blocks; the newest stay as they came."""
        upto = len(self._chunks) - _COMPACT_AFTER
        first = max(self._joined, self._removed)
        blocks: list[bytes] = []
        offsets: list[int] = []
        parts: list[bytes] = []
        size = 0
        begin = self._offsets[first]
        # The last block may have room for more chunks.
        if first > self._removed and len(self._chunks[first - 1]) < _BLOCK_BYTES // 2:
            first -= 1
            begin = self._offsets[first]
        for chunk in self._chunks[first:upto]:
            if parts and size + len(chunk) > _BLOCK_BYTES:
                blocks.append(b"".join(parts))
                offsets.append(begin)
                begin += size
                parts, size = [], 0
            parts.append(chunk)
            size += len(chunk)
        blocks.append(b"".join(parts))
        offsets.append(begin)
        self._chunks[first:upto] = blocks
        self._offsets[first:upto] = offsets
        self._joined = first + len(blocks)

    def _drop_removed(self) -> None:
        del self._chunks[: self._removed]
        del self._offsets[: self._removed]
        self._joined = max(0, self._joined - self._removed)
        self._removed = 0


@dataclass(frozen=True, slots=True)
class AttachAnswer:
    """Where a viewer begins to read, and how that relates to its last byte."""

    mode: AttachMode
    offset: int


def attach(
    ring: Ring, stream_id: UUID | None, wanted_stream: UUID | None, wanted_offset: int | None, upto: int = 0
) -> AttachAnswer:
    """Where a viewer begins that has seen `wanted_stream` up to `wanted_offset`; both are None for a new viewer.

    The stream has bytes up to `upto` that are not in the ring yet: a viewer that has seen them waits for its next byte.
    """
    if wanted_stream is None or wanted_offset is None:
        return AttachAnswer("tail", ring.start)
    if wanted_stream == stream_id and ring.start <= wanted_offset <= max(ring.end, upto):
        return AttachAnswer("exact", wanted_offset)
    return AttachAnswer("gap", ring.start)
