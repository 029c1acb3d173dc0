"""Makes recordings from the archive: the bytes, sizes and commands of one or more streams, in one of the formats.

A recording is streamed: at most a MiB of the archive is in memory, whatever the recording's length.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from onsembl.protocol import asciicast
from onsembl.protocol.asciicast import Asciicast
from onsembl.protocol.ids import StreamId
from onsembl.protocol.plain_text import Line, PlainText
from onsembl.sql import archive, recordings
from onsembl.sql.archive_rows import Piece
from onsembl.sql.database import Pool

Format = Literal["cast3", "cast2", "text", "text_times"]
MEDIA_TYPES: dict[Format, str] = {
    "cast3": asciicast.MEDIA_TYPE,
    "cast2": asciicast.MEDIA_TYPE,
    "text": "text/plain; charset=utf-8",
    "text_times": "text/plain; charset=utf-8",
}
EXTENSIONS: dict[Format, str] = {"cast3": "cast", "cast2": "cast", "text": "txt", "text_times": "txt"}
BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one stream, from `start` to `end` (exclusive). `columns` and `rows` are used if the archive has no size
    of the terminal. With `continues`, the bytes go on from those of the part before."""

    stream_id: StreamId
    start: int
    end: int
    columns: int
    rows: int
    continues: bool = False


class Encoder(Protocol):
    """Writes one format, piece by piece."""

    def head(self) -> bytes: ...
    def output(self, at: datetime, data: bytes) -> bytes: ...
    def resize(self, at: datetime, columns: int, rows: int) -> bytes: ...
    def marker(self, at: datetime, label: str) -> bytes: ...
    def reset(self, at: datetime) -> bytes: ...
    def end(self) -> bytes: ...


class Text:
    """Plain text: the lines as a person would have read them, without sizes. With `times`, each line begins with the
    time of its first byte, in UTC."""

    def __init__(self, *, times: bool) -> None:
        self._times = times
        self._lines = PlainText()
        self._offset = 0  # of the next byte, since the last reset
        self._began = ""  # the time of the unfinished line
        self._goes_on = False  # the unfinished line has been written in part

    def head(self) -> bytes:
        return b""

    def output(self, at: datetime, data: bytes) -> bytes:
        first, now = self._offset, _time(at)
        self._offset += len(data)
        written = b"".join(
            self._encoded(line, now if line.start >= first else self._began) for line in self._lines.feed(data)
        )
        if self._lines.line_start >= first:
            self._began = now
        return written

    def resize(self, at: datetime, columns: int, rows: int) -> bytes:
        return b""

    def marker(self, at: datetime, label: str) -> bytes:
        return b""

    def reset(self, at: datetime) -> bytes:
        left = self.end()
        self._lines, self._offset, self._goes_on = PlainText(), 0, False
        return left

    def end(self) -> bytes:
        rest = self._lines.rest()
        return self._encoded(rest, self._began) + b"\n" if rest is not None else b""

    def _encoded(self, line: Line, began: str) -> bytes:
        time = began + "  " if self._times and not self._goes_on else ""
        self._goes_on = not line.ended
        return (time + line.text + ("\n" if line.ended else "")).encode()


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def record(pool: Pool, parts: Sequence[Part], format: Format, title: str) -> AsyncGenerator[bytes]:
    """Yield the file of a recording, block by block."""
    encoder: Encoder | None = None
    block = bytearray()
    now = datetime.now(UTC)
    for part in parts:
        async for chunk in _events(pool, part):
            now = chunk.at
            if isinstance(chunk, _Begin):
                if encoder is None:
                    encoder = _encoder(format, chunk, title)
                    block += encoder.head()
                else:
                    if not part.continues:
                        block += encoder.reset(now)
                    block += encoder.resize(now, chunk.columns, chunk.rows)
                continue
            assert encoder is not None, "a part begins with its size"
            block += chunk.written_by(encoder)
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    if encoder is None:  # the archive has no bytes of these streams: the recording is empty
        first = parts[0] if parts else None
        size = (first.columns, first.rows) if first is not None else (80, 24)
        encoder = _encoder(format, _Begin(now, *size), title)
        block += encoder.head()
    yield bytes(block + encoder.end())


def _encoder(format: Format, begin: _Begin, title: str) -> Encoder:
    if format in ("text", "text_times"):
        return Text(times=format == "text_times")
    return Asciicast(3 if format == "cast3" else 2, begin.at, begin.columns, begin.rows, title)


@dataclass(frozen=True, slots=True)
class _Begin:
    at: datetime
    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Output:
    at: datetime
    data: bytes

    def written_by(self, encoder: Encoder) -> bytes:
        return encoder.output(self.at, self.data)


@dataclass(frozen=True, slots=True)
class _Resize:
    at: datetime
    columns: int
    rows: int

    def written_by(self, encoder: Encoder) -> bytes:
        return encoder.resize(self.at, self.columns, self.rows)


@dataclass(frozen=True, slots=True)
class _Marker:
    at: datetime
    label: str

    def written_by(self, encoder: Encoder) -> bytes:
        return encoder.marker(self.at, self.label)


_Event = _Output | _Resize | _Marker


async def _events(pool: Pool, part: Part) -> AsyncGenerator[_Begin | _Event]:
    """The part's bytes, cut at each change of size and at the start of each command."""
    async with pool.connection() as conn:
        sizes = await archive.sizes(conn, part.stream_id)
    columns, rows = part.columns, part.rows
    before = [size for size in sizes if size.start <= part.start]
    if before or sizes:
        columns, rows = (before[-1].columns, before[-1].rows) if before else (sizes[0].columns, sizes[0].rows)
    # Sizes and commands by the offset of the byte that they come before, in order.
    between: list[tuple[int, tuple[int, int] | str]] = [
        (size.start, (size.columns, size.rows)) for size in sizes if part.start < size.start < part.end
    ]
    begun = False
    async with (
        aclosing(recordings.commands(pool, part.stream_id, part.start, part.end)) as commands,
        aclosing(recordings.pieces(pool, part.stream_id, part.start, part.end)) as pieces,
    ):
        command = await anext(commands, None)
        async for piece in pieces:
            if not begun:
                yield _Begin(piece.at, columns, rows)
                begun = True
            while command is not None and command["output_start"] < piece.start + len(piece.data):
                insort(between, (command["output_start"], command["text"]), key=_place)
                command = await anext(commands, None)
            for event in _cut(piece, between):
                yield event


def _place(event: tuple[int, tuple[int, int] | str]) -> int:
    return event[0]


def _cut(piece: Piece, between: list[tuple[int, tuple[int, int] | str]]) -> list[_Event]:
    """The piece as events, with the sizes and commands within it, which are removed from `between`."""
    events: list[_Event] = []
    place, after = piece.start, piece.start + len(piece.data)
    while between and between[0][0] < after:
        offset, event = between.pop(0)
        if offset > place:
            events.append(_Output(piece.at, piece.data[place - piece.start : offset - piece.start]))
            place = offset
        events.append(_Marker(piece.at, event) if isinstance(event, str) else _Resize(piece.at, *event))
    events.append(_Output(piece.at, piece.data[place - piece.start :]))
    return events
