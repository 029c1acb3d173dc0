"""Turns the archive's pieces into the rows of the search index. Pure.

A line is indexed whole, even if it arrived in several pieces. Blank lines and a line that repeats the previous line are
left out, and so are the lines that a full-screen program redraws: lines that it drew a short while ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from onsembl.protocol.plain_text import Line, PlainText
from onsembl.sql.archive_rows import Piece
from onsembl.sql.search import Block, Progress

BLOCK_CHARACTERS = 4000
BLOCK_LINES = 200
BLOCK_SPAN = timedelta(minutes=10)
"""The longest time between lines of one row: results are sorted by row, newest first."""
CARRY = 200
"""The characters of a very long line that both of its parts contain: the longest term that is certain to be found
there."""
REDRAWN = 256
"""The number of lines that a full-screen program drew lately and that are not indexed again."""
FORCED_BYTES = 256 * 1024
"""A line that is rewritten for this many bytes is indexed as it is."""


class SearchLines:
    """Reads one stream, starting where its index ends."""

    def __init__(self, progress: Progress) -> None:
        self._lines = PlainText(progress.indexed)
        self._place = progress.indexed
        self._carry = progress.carry
        self._last = ""
        self._drawn: deque[str] = deque(maxlen=REDRAWN)
        self._at = datetime.fromtimestamp(0, UTC)
        self._found: list[tuple[int, datetime, str]] = []

    @property
    def place(self) -> int:
        """The offset after the last piece."""
        return self._place

    def feed(self, piece: Piece) -> None:
        """Read the next piece. A piece that does not follow the last one starts anew: retention has removed the bytes
        between."""
        if piece.start != self._place:
            self._lines, self._carry = PlainText(piece.start), ""
        self._at = piece.at
        for line in self._lines.feed(piece.data):
            self._take(line)
        self._place = piece.start + len(piece.data)
        if self._place - self._lines.line_start > FORCED_BYTES:
            rest = self._lines.rest()
            if rest is not None:
                self._take(rest)
            self._lines = PlainText(self._place)

    def finish(self) -> tuple[Progress, list[Block]]:
        """The progress of the index, and the new rows; an unfinished line is in the last row."""
        blocks = list(_blocks(self._found))
        rest = self._lines.rest()
        opened: datetime | None = None
        if rest is not None and rest.text.strip():
            opened = self._at
            blocks.append(Block(rest.start, opened, _clean(self._carry + rest.text), [rest.start], [0]))
        return Progress(self._lines.line_start, self._place, opened, self._carry), blocks

    def _take(self, line: Line) -> None:
        text = _clean(self._carry + line.text)
        self._carry = "" if line.ended else line.text[-CARRY:]
        if not text or text == self._last:
            return
        self._last = text
        if line.moved:
            if text in self._drawn:
                return
            self._drawn.append(text)
        self._found.append((line.start, self._at, text))


def _clean(text: str) -> str:
    return text.replace("\0", "").strip()  # Postgres allows no NUL in a text


def _blocks(lines: list[tuple[int, datetime, str]]) -> Iterator[Block]:
    first = size = 0
    for index, (_, at, text) in enumerate(lines):
        began = lines[first][1]
        full = size + len(text) > BLOCK_CHARACTERS or index - first >= BLOCK_LINES
        if index > first and (full or at - began > BLOCK_SPAN or at.date() != began.date()):
            yield _block(lines[first:index])
            first, size = index, 0
        size += len(text) + 1
    if lines:
        yield _block(lines[first:])


def _block(lines: list[tuple[int, datetime, str]]) -> Block:
    start, began, _ = lines[0]
    return Block(
        start,
        began,
        "\n".join(text for _, _, text in lines),
        [start for start, _, _ in lines],
        [max(0, int((at - began).total_seconds() * 1000)) for _, at, _ in lines],
    )
