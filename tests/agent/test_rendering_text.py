"""Foreign text for a terminal: filtered, measured, folded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.rendering.text import MAX_SEQUENCE, ControlFilter, folded, printable, shortened
from onsembl.protocol.text_width import columns


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("äöü 漢字 🙂", "äöü 漢字 🙂"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b\x1b]52;c;aGk=\x1b\\c", "abc"),
        ("\x1bPq1;2\x1b\\d\x1bc", "d"),
        ("\x9b31mC1\x07\x08\x7f", "31mC1"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("cut \x1b[3", "cut "),
        ("nul\x00", "nul"),
    ],
)
def test_printable_text_moves_no_cursor_and_sets_nothing(text, shown):
    """Of all control characters, only line feeds and tabs are left."""
    assert printable(text) == shown


@given(st.lists(st.sampled_from(["a", "\x1b", "[", "]", "0;t", "\x07", "31m", "\\", "P", " ", "\n", "ä"]), max_size=12))
def test_the_pieces_in_which_a_text_comes_make_no_difference(pieces):
    """A sequence that is cut between two pieces leaves no rest, and swallows nothing that follows."""
    cut, whole = ControlFilter(), ControlFilter()
    assert "".join(map(cut.feed, pieces)) == whole.feed("".join(pieces))


def test_a_sequence_without_an_end_swallows_little():
    """After its greatest length, the text of a sequence that does not end is shown."""
    filter_ = ControlFilter()
    shown = filter_.feed("\x1b]0;" + "x" * MAX_SEQUENCE) + filter_.feed("and more")
    assert shown.endswith("x" * MAX_SEQUENCE + "and more")


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("漢字", 4), ("e\u0301", 1), ("🙂", 2), ("", 0)])
def test_columns(text, width):
    """Wide characters take two columns, combining ones none."""
    assert columns(text) == width


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("漢字漢字", 5, "漢字…"), ("ab", 1, "…")],
)
def test_a_long_text_is_cut_to_columns(text, limit, cut):
    """The ellipsis is within the limit."""
    assert shortened(text, limit) == cut


def test_a_result_is_folded():
    """A progress bar leaves its last state; a long text its first lines, with the number of the others."""
    assert folded("10%\r20%\r100%\ndone\n") == ["100%", "done"]
    assert folded("a\x1b[31mb\x1b]0;t\x07c") == ["abc"]
    lines = folded("\n".join(["x" * 5000, *map(str, range(100_000))]))
    assert [len(lines[0]), *lines[1:3]] == [400, "0", "1"]
    assert lines[12:] == ["… 99,989 more lines"]
