"""The last line of a program's output."""

from __future__ import annotations

import pytest

from onsembl.agent.rendering.last_line import KEPT_BYTES, MAX_CHARACTERS, LastLine


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (b"", ""),
        (b"\r\n\r\n", ""),
        (b"one\r\ntwo\r\n\r\n", "two"),
        (b"one\r\nhalf a li", "half a li"),
        (b"10 %\r55 %\r80 %", "80 %"),
        (b"\x1b[31mred\x1b[0m  and\tmore\r\n", "red and more"),
        (b"\x1b]0;title\x07done\r\n", "done"),
        (b"before\r\n\x1b[5;1Hdrawn\x1b[6;1H", "before"),
        ("grüße 👍\r\n".encode(), "grüße 👍"),
        (b"x" * 500 + b"\r\n", "x" * MAX_CHARACTERS),
    ],
)
def test_it_is_as_a_person_reads_it(written, line):
    """However the bytes come, and whatever came before."""
    for before in (b"", b"\x1b[1mbuild\x1b[0m\r\n" * 500):
        if before and not line:
            continue
        whole, bytewise = LastLine(), LastLine()
        whole.feed(before + written)
        bytewise.feed(before)
        for at in range(len(written)):
            bytewise.feed(written[at : at + 1])
        assert (whole.read(), bytewise.read()) == (line, line)


def test_a_line_stays_until_another_one_comes():
    """What is drawn on a whole screen is no line; a long line is known by its end; and little is kept."""
    last = LastLine()
    last.feed(b"one\r\n")
    assert last.read() == "one"
    last.feed(b"\x1b[2;2Hdrawn\x1b[3;3H" * 1000)
    assert last.read() == "one"
    last.feed(b"a" * 10_000)
    assert last.read() == "a" * MAX_CHARACTERS
    assert len(last._recent) == KEPT_BYTES
