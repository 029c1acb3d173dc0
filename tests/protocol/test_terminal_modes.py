"""The terminal modes at an offset of a stream."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.terminal_modes import TerminalModes

PIECES = [
    b"\x1b[?1049h",
    b"\x1b[?1049l",
    b"\x1b[?25l",
    b"\x1b[?25h",
    b"\x1b[?1000;1006h",
    b"\x1b[?1000;1006l",
    b"\x1b[?2004h",
    b"\x1b=",
    b"\x1b>",
    b"\x1bc",
    b"\x1b[?9999h",
    b"\x1b[31m",
    b"text\r\n",
    "ünï".encode(),
]


def expected(data: bytes) -> set[str]:
    """The modes that one search of all bytes finds."""
    on = {25: True, 7: True}
    for numbers, final, single in re.findall(rb"\x1b(?:\[\?([\d;]+)([hl])|([=>c]))", data):
        if single == b"c":
            on = {25: True, 7: True}
        elif single:
            on[-1] = single == b"="
        else:
            on |= dict.fromkeys(map(int, numbers.split(b";")), final == b"h")
    on.pop(9999, None)
    differs = {mode: value for mode, value in on.items() if value != (mode in (7, 25))}
    return {"\x1b=" if mode == -1 else f"\x1b[?{mode}{'h' if value else 'l'}" for mode, value in differs.items()}


def parts(sequence: str) -> set[str]:
    return set(re.findall(r"\x1b=|\x1b\[\?\d+[hl]", sequence))


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.data())
def test_it_is_what_a_look_at_all_of_it_says(pieces, data):
    """The modes equal those of one search of all bytes, for any cut of the stream, at every offset, and with a
    beginning that comes later."""
    stream = b"".join(pieces)
    begun = data.draw(st.sampled_from([0, *range(len(pieces))])) if pieces else 0
    first = len(b"".join(pieces[:begun]))
    modes = TerminalModes(first)
    at = first
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        modes.feed(stream[at : at + size])
        at += size
    modes.prepend(stream[:first], 0)
    place = 0
    for piece in [b"", *pieces]:
        place += len(piece)
        assert parts(modes.at(place)) == expected(stream[:place])


def test_the_alternate_screen_comes_first():
    """The alternate screen is the first mode, because the other modes are set on it."""
    modes = TerminalModes()
    modes.feed(b"\x1b[?25l\x1b[?2004h\x1b[?1049h")
    assert modes.at(100) == "\x1b[?1049h\x1b[?25l\x1b[?2004h"


def test_memory_is_bounded():
    """Memory is bounded when a program hides and shows the cursor for hours."""
    modes = TerminalModes()
    modes.feed(b"\x1b[?1049h")
    for _ in range(100):
        modes.feed(b"\x1b[?25l\x1b[?25h" * 1000)
    assert len(modes._changes) <= 1024
    assert modes.at(10**9) == "\x1b[?1049h"
