"""From the archive's pieces to the rows that a search looks through. Pure.

A line is found whole, whatever the batches it came in. Left out are blank lines, a line that repeats the one before it,
and what a full-screen program draws again and again: a line that it drew a short while ago.
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
"""Lines that lie further apart are not of one row: finds come newest first, and rows are what is sorted."""
CARRY = 200
"""Characters of a very long line that are in both of its parts: the longest term that is found there for certain."""
REDRAWN = 256
"""Lines that a full-screen program drew lately."""
FORCED_BYTES = 256 * 1024
"""A line that is rewritten for so long is taken as it is."""


class SearchLines:
    """Reads one stream on from where its index ends."""

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
        """The offset after what was fed."""
        return self._place

    def feed(self, piece: Piece) -> None:
        """The next piece; one that does not follow the last begins anew, for what was between is kept no longer."""
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
        """How far it is indexed now, and the rows for that; the line that has not ended is the last one's."""
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
    return text.replace("\0", "").strip()  # Postgres takes no NUL in a text


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
