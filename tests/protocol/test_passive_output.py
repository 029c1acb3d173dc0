"""Terminal bytes on a person's own terminal: they draw, and ask nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.passive_output import LONGEST_SEQUENCE, PassiveOutput

DRAWS = [
    b"plain text, \xe2\x82\xac and \r\n",
    b"\x1b[31mred\x1b[0m",
    b"\x1b[?1049h\x1b[2J\x1b[H",
    b"\x1b[?2004h\x1b[?1000;1006h",
    b"\x1b[2 q",
    b"\x1b]8;;https://example.org\x1b\\a link\x1b]8;;\x07",
    b"\x1b7\x1b8\x1bM\x1b(B\x1bc",
    b"\x1b[s\x1b[u",
]
ASKS = [
    b"\x1b[6n",
    b"\x1b[?6n",
    b"\x1b[c",
    b"\x1b[>0c",
    b"\x1b[=c",
    b"\x1b[>q",
    b"\x1b[?u",
    b"\x1b[>1u",
    b"\x1b[<u",
    b"\x1b[>4;2m",
    b"\x1b[?4m",
    b"\x1b[?2026$p",
    b"\x1b[18t",
    b"\x1b[0x",
    b"\x1bZ",
    b"\x05",
    b"\x1b]52;c;cm0gLXJmIH4=\x07",
    b"\x1b]0;a title\x1b\\",
    b"\x1b]11;?\x07",
    b"\x1bP$qm\x1b\\",
    b"\x1b_Gi=31;AAAA\x1b\\",
]


def written(*chunks: bytes) -> bytes:
    output = PassiveOutput()
    return b"".join(map(output.feed, chunks))


@pytest.mark.parametrize("data", DRAWS)
def test_what_draws_is_passed(data: bytes):
    """Text, colours, modes and links are passed on as they are."""
    assert written(data) == data


@pytest.mark.parametrize("data", ASKS)
def test_what_asks_is_dropped(data: bytes):
    """Queries, the clipboard, titles, palettes and images are left out, and the text around them is not."""
    assert written(b"before" + data + b"after") == b"beforeafter"


@given(st.lists(st.sampled_from([*DRAWS, *ASKS, b"\x1b", b"[", b"x"])), st.lists(st.integers(1, 9)))
def test_chunks_make_no_difference(parts: list[bytes], sizes: list[int]):
    """The output is the same however the bytes are cut into chunks."""
    data = b"".join(parts)
    chunks, place = [], 0
    for size in sizes:
        chunks.append(data[place : place + size])
        place += size
    assert written(*chunks, data[place:]) == written(data)


def test_a_sequence_without_an_end_does_not_hold_the_output():
    """A sequence that is too long, or none, is text at last: memory is bounded, and output goes on."""
    output = PassiveOutput()
    output.feed(b"\x1b]52;c;" + b"A" * LONGEST_SEQUENCE)
    assert output.feed(b"more").endswith(b"more")
    assert written(b"\x1b\x1b[31mx\x1b[\x80y") == b"\x1b[31mx[\x80y"
