"""Markdown for a terminal, as it comes."""

from __future__ import annotations

import re

import pyte
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onsembl.agent.rendering.markdown import MAX_WORD, MarkdownWriter
from onsembl.protocol.text_width import columns


def write(text: str, width: int = 80, size: int = 2**30, **options: str) -> str:
    """What is shown for a text that comes in pieces of this size."""
    writer = MarkdownWriter(lambda: width, **options)
    return "".join(writer.feed(text[at : at + size]) for at in range(0, len(text), size)) + writer.end()


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# A **bold** title", "A bold title\n"),
        ("- one\n- two\n  * three", "• one\n• two\n  • three\n"),
        ("1. one\n10) two", "1. one\n10) two\n"),
        ("> said", "│ said\n"),
        ("```python\ndef f():\n    return  **1\n```\nafter", "\ndef f():\n    return  **1\n\nafter\n"),
        ("| a | b |\n|---|---|", "| a | b |\n|---|---|\n"),
        ("---", "─" * 40 + "\n"),
        ("one\n\ntwo", "one\n\ntwo\n"),
        ("2**3 and `a * b` and ``c`d``", "2**3 and a * b and c`d\n"),
        ("a_name_with_underscores", "a_name_with_underscores\n"),
        ("**open", "open\n"),
        ("", ""),
    ],
)
def test_a_block_is_known_by_its_first_word(text, shown):
    """Marks are replaced by what they mean; what is no mark stays."""
    assert plain(write(text)) == shown


def test_emphasis_and_code_are_styled():
    """Each style ends where its mark ends, and at the latest with the line."""
    screen = pyte.Screen(40, 4)
    pyte.Stream(screen).feed(write("a **b c** `d`\n**e\nf").replace("\n", "\r\n"))
    cells = [screen.buffer[0][column] for column in range(7)]
    assert "".join(cell.data for cell in cells) == "a b c d"
    assert [cell.bold for cell in cells] == [False, False, True, True, True, False, False]
    assert [cell.fg for cell in cells] == ["default"] * 6 + ["cyan"]
    assert (screen.buffer[1][0].bold, screen.buffer[2][0].bold) == (True, False)


def test_lines_are_wrapped_between_words():
    """A list keeps its indentation; a word that fits on no line is not cut."""
    assert write("- aaaa bbbb cccc", width=10) == "• aaaa\n  bbbb\n  cccc\n"
    assert write("aa " + "x" * 30, width=10) == "aa\n" + "x" * 30 + "\n"
    assert write("漢字 漢字 漢字", width=10) == "漢字 漢字\n漢字\n"
    assert write("a b", width=80, indent="    ") == "    a b\n"


def test_a_new_width_counts_from_the_next_word():
    """The width is asked for at each word."""
    width = 80
    writer = MarkdownWriter(lambda: width)
    shown = writer.feed("aaaa bbbb ")
    width = 10
    assert shown + writer.feed("cccc ") + writer.end() == "aaaa bbbb\ncccc\n"


TEXTS = st.text(st.sampled_from("ab *`#-1.>|~\n\t🙂é漢"), max_size=80)


@example("|\t1", 1, 5)
@example("```\na  b", 1, 5)
@given(TEXTS, st.integers(1, 9), st.integers(5, 40))
def test_the_pieces_in_which_a_text_comes_make_no_difference(text, size, width):
    """A mark may be cut anywhere."""
    assert write(text, width, size) == write(text, width)


@given(st.lists(st.text("abcdefg", min_size=1, max_size=9), min_size=1, max_size=40), st.integers(25, 60))
def test_no_line_is_longer_than_the_terminal(words, width):
    """Every word is shown, in order, and no line has more columns than the terminal."""
    shown = plain(write(" ".join(words), width))
    assert shown.split() == words
    assert all(columns(line) <= width for line in shown.split("\n"))


@pytest.mark.parametrize("before", ["", "a ", "```\n", "| a", "- "])
@pytest.mark.parametrize("unit", ["x", " ", "\t", "*", "`", "**a", "-", "#", ">", "1", "|", "漢", "a`` "])
def test_a_long_word_is_shown_as_it_comes(before, unit):
    """A file in base64, or any other line without a space: the writer keeps a bounded part of it, so that each piece
    costs the same, and what is shown does not depend on the pieces."""
    writer = MarkdownWriter(lambda: 80)
    shown, piece = writer.feed(before), unit * 100
    for _ in range(25):
        shown += writer.feed(piece)
        assert sum(len(kept) for kept in vars(writer).values() if isinstance(kept, str | list)) < 3 * MAX_WORD + len(
            piece
        )
    assert shown + writer.end() == write(before + unit * 2500)


@settings(max_examples=20)
@given(st.text("ab12+/=", min_size=1, max_size=9), st.integers(MAX_WORD - 2, 3 * MAX_WORD), st.integers(25, 60))
def test_a_long_word_keeps_its_characters(unit, length, width):
    """Nothing is put between the parts in which it is shown; the words around it are words of their own."""
    word = (unit * length)[:length]
    assert plain(write(f"see {word} there", width)).replace("\n", " ").split() == ["see", word, "there"]
