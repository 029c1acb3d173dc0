"""Bytes in files, from one place to another, appended at the end and forgotten at the beginning.

What was appended is there after the death of this process, `kill -9` included: it is with the system's file cache. It
is not forced to the disk, so a machine that loses power may lose the newest bytes.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path

from onsembl.agent.link.durable import PRIVATE

SEGMENT_BYTES = 4 * 1024 * 1024


class Spool:
    """Files named after the place of their first byte, each written to `segment_bytes` and deleted when all of it is
    forgotten. Places are counted from the first byte ever written. Raises OSError."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._starts: list[int] = []
        self.end = 0
        """The place of the next byte."""
        self._writing: int | None = None
        self._reading: tuple[int, int] | None = None  # a segment's start, and its open file
        self._load()

    @property
    def start(self) -> int:
        """The oldest byte that is kept."""
        return self._starts[0] if self._starts else self.end

    def append(self, data: bytes) -> None:
        """Write at the end. Raises OSError, and then `end` says how much of it was written."""
        left = memoryview(data)
        while left:
            if self._writing is None or self.end - self._starts[-1] >= self._segment_bytes:
                self._next_segment()
            assert self._writing is not None
            count = os.write(self._writing, left[: self._starts[-1] + self._segment_bytes - self.end])
            self.end += count
            left = left[count:]

    def read(self, place: int, limit: int) -> bytes:
        """Some bytes from `place` on, at most `limit`; none at the end."""
        if place >= self.end:
            return b""
        start = self._starts[bisect_right(self._starts, place) - 1]
        if self._reading is None or self._reading[0] != start:
            self._stop_reading()
            self._reading = (start, os.open(self._path(start), os.O_RDONLY | os.O_CLOEXEC))
        return os.pread(self._reading[1], min(limit, self.end - place), place - start)

    def forget(self, upto: int) -> None:
        """Bytes before `upto` are of no more use. The last file stays."""
        while len(self._starts) > 1 and self._starts[1] <= upto:
            start = self._starts.pop(0)
            if self._reading is not None and self._reading[0] == start:
                self._stop_reading()
            self._path(start).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all that was written, and go on at the same place."""
        self.close()
        for start in self._starts:
            self._path(start).unlink(missing_ok=True)
        self._starts.clear()

    def close(self) -> None:
        """Let go of the files."""
        self._stop_reading()
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None

    def _load(self) -> None:
        for path in sorted(self._folder.glob("[0-9]*")):
            start = int(path.name)
            if start != self.end and self._starts:
                # Something was removed by hand: what was before it cannot be told from what is missing.
                for before in self._starts:
                    self._path(before).unlink(missing_ok=True)
                self._starts.clear()
            self._starts.append(start)
            self.end = start + path.stat().st_size
        if self._starts and self.end - self._starts[-1] < self._segment_bytes:
            self._writing = os.open(self._path(self._starts[-1]), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _next_segment(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path(self.end), flags, PRIVATE)
        if self._writing is not None:
            os.close(self._writing)
        self._writing = descriptor
        if not self._starts or self._starts[-1] != self.end:
            self._starts.append(self.end)

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:020d}"

    def _stop_reading(self) -> None:
        if self._reading is not None:
            os.close(self._reading[1])
            self._reading = None
