"""Lines of text as a terminal shows them, from the bytes that it receives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.plain_text import MAX_LINE, MAX_STRING, Line, PlainText


def read(data: bytes) -> list[str]:
    text = PlainText()
    found = [line.text for line in text.feed(data)]
    rest = text.rest()
    return [*found, rest.text] if rest else found


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"a\r\nb\n", ["a", "b"]),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07text\n", ["red text"]),
        (b"\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\\n", ["link"]),
        (b"\x1bPq#0;2;0;0;0#0~~\x1b\\sixel\n", ["sixel"]),
        (b" 10 %\r 55 %\r100 %\n", ["100 %"]),
        (b"longer\rshort\x1b[K\n", ["short"]),
        (b"abc\b\bX\n", ["aXc"]),
        (b"a\tb\n", ["a       b"]),
        (b"abcdef\x1b[3D\x1b[P\x1b[1@-\n", ["abc-ef"]),
        (b"abc\x1b[2K\rd\n", ["d"]),
        (b"ab\x1b[10Gc\n", ["ab       c"]),
        (b"one\x1b[5;1Htwo\x1b[2J\n", ["one", "two", ""]),
        (b"\x1b[?1049hscreen\x1b[?1049lback\n", ["screen", "back"]),
        (b"\x1b[?25l\x1b(B\x1b=\x07\x0eplain\x0f\n", ["plain"]),
        ("größe ✓ 漢字\n".encode(), ["größe ✓ 漢字"]),
        (b"bad \xff\xfe\xc3\x28\n", ["bad \ufffd\ufffd\ufffd("]),
        (b"trailing   \n", ["trailing"]),
        (b"\x1b\x1b[31mx\n", ["x"]),
        (b"half\xc3", ["half\ufffd"]),
    ],
)
def test_what_is_sent_and_what_is_read(sent, shown):
    """Escape sequences are removed, and cursor movements within a line act as in a terminal."""
    assert read(sent) == shown


TERMINAL = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"\x1b[3", b"1m", b"\x1b]0;", b"\x1b", b"\\", b"\x07", b"\r", b"\n", b"\x1b[2K", b"\xe2\x9c", b"\x93"]
        ),
        st.text(max_size=8).map(lambda text: text.encode("utf-8", "replace")),
    ),
    max_size=30,
)


@given(TERMINAL, st.lists(st.integers(1, 9), max_size=40))
def test_where_the_chunks_are_cut_makes_no_difference(parts, cuts):
    """A sequence, a string's end or a character may be cut between two chunks."""
    data = b"".join(parts)
    whole, pieces = PlainText(), PlainText()
    expected = list(whole.feed(data))
    seen: list[Line] = []
    for cut in [*cuts, len(data)]:
        seen += pieces.feed(data[:cut])
        data = data[cut:]
    assert seen == expected
    assert (pieces.rest(), pieces.line_start) == (whole.rest(), whole.line_start)


@given(TERMINAL, TERMINAL)
def test_reading_goes_on_at_the_line_that_had_not_ended(before, after):
    """A reader that starts at `line_start` reads the same lines as the first reader."""
    first, data = PlainText(), b"".join(before)
    list(first.feed(data))
    again = PlainText(first.line_start)
    more = list(again.feed(data[first.line_start :]))
    assert more == []
    assert list(again.feed(b"".join(after))) == list(first.feed(b"".join(after)))


def test_each_line_says_where_it_begins():
    """Each line has its offset in the stream, which counts the escape sequences."""
    text = PlainText(1000)
    lines = list(text.feed(b"ab\r\n\x1b[31mcd\x1b[m\n" + "ü\n".encode()))
    assert [(line.start, line.text) for line in lines] == [(1000, "ab"), (1004, "cd"), (1015, "ü")]
    assert text.line_start == 1018


def test_a_line_without_an_end_is_handed_out_in_parts():
    """A very long line is returned in parts with their offsets, in bounded memory and without loss."""
    text, seen, size = PlainText(), 0, 3_000_000
    for _ in range(size // 10_000):
        for line in text.feed(b"x" * 10_000):
            assert not line.ended and line.start == seen and len(line.text) < MAX_LINE + 4096
            seen += len(line.text)
    rest = text.rest()
    assert seen + (len(rest.text) if rest else 0) == size


def test_a_control_string_that_nobody_ends_does_not_swallow_the_rest():
    """A control string that does not end is taken as ended after 64 KiB."""
    text = PlainText()
    assert list(text.feed(b"\x1b]0;" + b"t" * MAX_STRING)) == []
    list(text.feed(b"more"))
    assert [line.text for line in text.feed(b"\nafter\n")][-1] == "after"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("漢字\b\bX", "漢X"),
        ("漢字\rX", "X 字"),
        ("a漢\x1b[2GX", "aX "),
        ("a漢\x1b[3GX", "a X"),
        ("漢字\x1b[1GX\x1b[K", "X"),
        ("👩‍👩‍👧‍👦x\x1b[3Gy", "👩‍👩‍👧‍👦y"),
        ("❤️x\x1b[3Gy", "❤️y"),
        ("👍🏽x\x1b[3Gy", "👍🏽y"),
        ("🇩🇪🇫🇷\x1b[3Gy", "🇩🇪y "),
        ("e\u0301x\x1b[2Gy", "e\u0301y"),
        ("\U0001fae9x\x1b[3Gy", "\U0001fae9y"),
        ("한x\x1b[3Gy", "한y"),
        ("漢漢\x1b[2G\x1b[P", " 漢"),
        ("漢漢\x1b[2G\x1b[1K", "  漢"),
        ("漢\x1b[1G\x1b[@", " 漢"),
        ("漢\x1b[2G\x1b[@", "   "),
        ("\u0301漢", "漢"),
    ],
)
def test_a_grapheme_takes_its_columns(sent, shown):
    """Wide, joined and marked characters take the columns of Unicode 15 and later; half of a wide one becomes blank."""
    assert read(f"{sent}\n".encode()) == [shown.rstrip(" ")]


def test_a_flood_of_marks_and_of_graphemes_stays_bounded():
    """A letter with endless marks stays in one column, and a line of more graphemes than can be told apart is read."""
    text = PlainText()
    for _ in range(100):
        list(text.feed(("e" + "\u0301" * 500).encode()))
    rest = text.rest()
    assert rest is not None
    assert len(rest.text) <= 100 * 32
    many = PlainText()
    list(many.feed("".join(f"{chr(0x4E00 + n)}\u0301" for n in range(3000)).encode()))
    rest = many.rest()
    assert rest is not None
    assert rest.text.startswith("一\u0301丁\u0301")
