"""A row of the archive: a run of bytes, compressed, with the arrival time of each piece.

The compression is zstd, by `zstandard`: on terminal output it is several times as fast as zlib at a better ratio. It
releases the interpreter's lock, so it does not delay a busy API.

The pieces are two arrays of little-endian 32-bit numbers, concatenated and compressed together: the milliseconds since
the row's `at`, and the lengths in bytes. Bytes that arrive within one millisecond are one piece: a recording has no
finer times, and a flood of small chunks stays small.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import zstandard

from onsembl.protocol.ids import StreamId

LEVEL = 1


class _Zstd(threading.local):
    """The compressors of one thread: threads cannot share them, and creating them takes longer than packing a short
    row."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=LEVEL).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()
MAX_ROW_BYTES = 256 * 1024
"""The most bytes in one row before compression; a reader holds a whole row in memory. A longer chunk is one row."""


@dataclass(frozen=True, slots=True)
class ArchiveRow:
    """One row, ready to write."""

    stream_id: StreamId
    start: int
    length: int
    at: datetime
    pieces: bytes
    data: bytes

    @property
    def end(self) -> int:
        """The offset after the row's last byte."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a stream that arrived together: the time, the offset of the first byte, and the bytes."""

    at: datetime
    start: int
    data: bytes


def pack(stream_id: StreamId, start: int, chunks: Sequence[bytes], times: Sequence[float]) -> list[ArchiveRow]:
    """Pack `chunks` into rows. Their first byte is at `start`; `times` (Unix time) has the arrival of each chunk.

    Run this in a thread: its time is proportional to the number of bytes.
    """
    rows: list[ArchiveRow] = []
    first = size = 0
    for index, chunk in enumerate(chunks):
        if size and size + len(chunk) > MAX_ROW_BYTES:
            rows.append(_row(stream_id, start, chunks[first:index], times[first:index]))
            start, first, size = start + size, index, 0
        size += len(chunk)
    rows.append(_row(stream_id, start, chunks[first:], times[first:]))
    return rows


def _row(stream_id: StreamId, start: int, chunks: Sequence[bytes], times: Sequence[float]) -> ArchiveRow:
    began = times[0]
    after = array("I")
    lengths = array("I")
    last = -1
    for chunk, time in zip(chunks, times, strict=True):
        milliseconds = max(last, int((time - began) * 1000), 0)  # the clock may be set back
        if milliseconds == last:
            lengths[-1] += len(chunk)
        else:
            after.append(milliseconds)
            lengths.append(len(chunk))
            last = milliseconds
    data = b"".join(chunks)
    compress = _zstd.compress
    pieces = compress(_little_endian(after) + _little_endian(lengths))
    return ArchiveRow(stream_id, start, len(data), datetime.fromtimestamp(began, UTC), pieces, compress(data))


def unpack(start: int, at: datetime, pieces: bytes, data: bytes) -> Iterator[Piece]:
    """The pieces of a row, in order."""
    decompress = _zstd.decompress
    numbers = array("I")
    numbers.frombytes(decompress(pieces))
    if sys.byteorder == "big":
        numbers.byteswap()
    count = len(numbers) // 2
    content = decompress(data)
    place = 0
    for after, length in zip(numbers[:count], numbers[count:], strict=True):
        yield Piece(at + timedelta(milliseconds=after), start + place, content[place : place + length])
        place += length


def _little_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
