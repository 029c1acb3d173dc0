"""Rows for the search, made from pieces of a stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from onsembl.sql.archive_rows import Piece
from onsembl.sql.search import Block, Progress
from onsembl.tasks.search_lines import BLOCK_CHARACTERS, BLOCK_SPAN, SearchLines

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
NEW = Progress(0, 0, None, "")


def read(*chunks: bytes, progress: Progress = NEW, start: int = 0) -> tuple[Progress, list[Block]]:
    lines = SearchLines(progress)
    for index, chunk in enumerate(chunks):
        lines.feed(Piece(NOON + timedelta(seconds=index), start, chunk))
        start += len(chunk)
    return lines.finish()


def texts(blocks: list[Block]) -> list[str]:
    return [line for block in blocks for line in block.text.split("\n")]


def test_lines_keep_their_place_and_time():
    """Each line keeps its offset and time; blank and repeated lines are omitted."""
    progress, (block,) = read(b"one\r\n\r\n", b"\x1b[31mtwo\x1b[m\r\ntwo\r\n", b"three\n")
    assert block.text == "one\ntwo\nthree"
    assert (block.start, block.at) == (0, NOON)
    assert (block.line_starts, block.line_ms) == ([0, 7, 25], [0, 1000, 2000])
    assert progress == Progress(31, 31, None, "")


def test_lines_that_lie_far_apart_are_not_of_one_row():
    """A row has only lines that are close in time, because rows are sorted and searched by time."""
    lines = SearchLines(NEW)
    for number in range(5):
        lines.feed(Piece(NOON + 0.4 * number * BLOCK_SPAN, number * 4, b"%03d\n" % number))
    _, blocks = lines.finish()
    assert [block.text.split("\n") for block in blocks] == [["000", "001", "002"], ["003", "004"]]


def test_a_line_that_has_not_ended_is_found_and_made_anew():
    """A line without its end is indexed, and its row is replaced when more of the line arrives."""
    progress, blocks = read(b"$ make\nerr")
    assert texts(blocks) == ["$ make", "err"]
    assert progress == Progress(7, 10, NOON, "")
    later, blocks = read(b"err", b"or: no rule\n", progress=progress, start=7)
    assert texts(blocks) == ["error: no rule"] and later.open_at is None


@given(st.lists(st.sampled_from(["ab", "needle in hay", "x" * 50, "\n", "\r", "ü"]), max_size=40), st.data())
def test_what_is_indexed_does_not_depend_on_the_batches(words, data):
    """Indexing a stream in batches finds the same lines as indexing it at once."""
    stream = "".join(words).encode()
    _, whole = read(stream)
    progress, found = NEW, list[Block]()
    while progress.seen < len(stream):
        upto = data.draw(st.integers(progress.seen + 1, len(stream)))
        opened = progress.open_at
        progress, blocks = read(stream[progress.indexed : upto], progress=progress, start=progress.indexed)
        if opened is not None:
            found.pop()
        found += blocks
    assert without_repetitions(found) == without_repetitions(whole)


def without_repetitions(blocks: list[Block]) -> list[str]:
    return [text for text, _ in groupby(texts(blocks))]


def test_a_very_long_line_is_found_where_its_parts_meet():
    """The parts of a very long line overlap, so a text at their boundary is found."""
    stream = b"".join(f"word{number:07d} ".encode() for number in range(3000))
    progress, blocks = read(*(stream[place : place + 1000] for place in range(0, len(stream), 1000)))
    for number in range(2999):
        phrase = f"word{number:07d} word{number + 1:07d}"
        assert any(phrase in text for text in texts(blocks)), phrase
    assert all(len(block.text) < 3 * BLOCK_CHARACTERS for block in blocks)
    assert progress.carry


def test_what_a_program_redraws_is_kept_once():
    """A line that a program redraws ten times a second, such as a spinner, is kept once."""
    frame = b"\x1b[2J\x1b[HThinking\x1b[2;1Hpress esc\x1b[3;1H"
    _, blocks = read(*[frame] * 50)
    assert texts(blocks) == ["Thinking", "press esc"]


def test_a_line_that_is_rewritten_for_ever_does_not_hold_the_index_back():
    """A line that is rewritten for a megabyte, such as a progress bar, is indexed meanwhile."""
    progress, _ = read(*(f"\r{number:06d} of many".encode() * 10 for number in range(9000)))
    assert progress.seen - progress.indexed < 300_000


def test_after_a_hole_reading_begins_anew():
    """After a gap that retention left, indexing begins anew."""
    lines = SearchLines(Progress(5, 5, None, "carried"))
    lines.feed(Piece(NOON, 900, b"kept\n"))
    progress, blocks = lines.finish()
    assert texts(blocks) == ["kept"] and blocks[0].line_starts == [900] and progress.indexed == 905


def test_a_nul_is_left_out():
    """NUL characters are omitted, because Postgres does not store them in a text."""
    assert texts(read(b"a\x00b\n")[1]) == ["ab"]
