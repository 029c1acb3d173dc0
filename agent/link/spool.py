"""A range of bytes in files: new bytes are appended at its end, old ones are dropped at its start.

Appended bytes survive the death of this process, also by `kill -9`, because they are in the system's file cache. They
are not synced to the disk, so a machine that loses power may lose the newest bytes.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path

from onsembl.agent.link.durable import PRIVATE

SEGMENT_BYTES = 4 * 1024 * 1024


class Spool:
    """Segment files of `segment_bytes` each, named by the place of their first byte.

    Places are counted from the first byte ever written. A segment is deleted when all of its bytes are dropped. The
    constructor raises OSError.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._starts: list[int] = []
        self.end = 0
        """The place of the next byte."""
        self._writing: int | None = None
        self._skipped = False
        self._reading: tuple[int, int] | None = None  # a segment's start, and its open file
        self._load()

    @property
    def start(self) -> int:
        """The oldest byte that is kept."""
        return self._starts[0] if self._starts else self.end

    def append(self, data: bytes) -> None:
        """Write at the end. After an OSError, `end` tells how much was written."""
        left = memoryview(data)
        while left:
            if self._writing is None or self.end - self._starts[-1] >= self._segment_bytes:
                self._next_segment()
            assert self._writing is not None
            count = os.write(self._writing, left[: self._starts[-1] + self._segment_bytes - self.end])
            self.end += count
            left = left[count:]

    def read(self, place: int, limit: int) -> bytes:
        """Bytes from `place` on, at least one and at most `limit`; none at the end."""
        if place >= self.end:
            return b""
        start = self._starts[bisect_right(self._starts, place) - 1]
        if self._reading is None or self._reading[0] != start:
            self._stop_reading()
            self._reading = (start, os.open(self._path(start), os.O_RDONLY | os.O_CLOEXEC))
        return os.pread(self._reading[1], min(limit, self.end - place), place - start)

    def drop(self, upto: int) -> None:
        """Drop the bytes before `upto`, as far as whole files have only such bytes. The last file stays."""
        while len(self._starts) > 1 and self._starts[1] <= upto:
            start = self._starts.pop(0)
            if self._reading is not None and self._reading[0] == start:
                self._stop_reading()
            self._path(start).unlink(missing_ok=True)

    def skip(self, place: int) -> None:
        """Go on at a later place: the bytes before it are not needed, and the disk has not all.

        The files are deleted once the next one is made, so that a later run does not count places from 0 again.
        """
        self.close()
        self.end, self._skipped = place, True

    def clear(self) -> None:
        """Drop all bytes, and go on at the same place."""
        self.close()
        for start in self._starts:
            self._path(start).unlink(missing_ok=True)
        self._starts.clear()

    def close(self) -> None:
        """Close the files."""
        self._stop_reading()
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None

    def _load(self) -> None:
        for path in sorted(self._folder.glob("[0-9]*")):
            start = int(path.name)
            if start != self.end and self._starts:
                # A file was removed by hand: only the bytes after the hole are one range.
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
        if self._skipped:
            self._skipped = False
            self.drop(self.end)

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:020d}"

    def _stop_reading(self) -> None:
        if self._reading is not None:
            os.close(self._reading[1])
            self._reading = None
