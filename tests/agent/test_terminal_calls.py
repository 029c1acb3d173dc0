"""Calls for a person in a program's output: found wherever it is cut, and nothing else taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.process.terminal_calls import BELL, MAX_STRING_BYTES, MAX_TEXT, TerminalCalls

CALLS = {
    b"\x07": [BELL],
    b"\x1b]9;Build done\x07": ["Build done"],
    b"\x1b]9;Build \xc3\xa4\x1b\\": ["Build ä"],
    b"\x1b]777;notify;Claude;waits; for you\x07": ["Claude: waits; for you"],
    b"\x1b]99;;Hello\x1b\\": ["Hello"],
    b"\x1b]99;i=1:d=0:p=title;One\x1b\\\x1b]99;i=1:p=body;two\x1b\\": ["One: two"],
    b"\x1b]99;e=1;SGVsbG8=\x1b\\": [""],
    b"\x1b\x07": [BELL],
    b"\x1b]0;title\x07": [],
    b"\x1b]9;4;1;50\x07": [],
    b"\x1b]777;precmd\x07": [],
    b"\x1b]99;p=close;x\x1b\\": [],
    b"\x1bPq\x07\x07#0\x1b\\": [],
    b"\x1b]9;given up\x18": [],
    b"\x1b[31mred\x1b[0m": [],
    b"plain": [],
}


@pytest.mark.parametrize(("output", "texts"), CALLS.items())
def test_what_calls(output, texts):
    """The bell and notifications do; titles, progress, images and colours do not."""
    assert TerminalCalls().feed(output) == texts


@given(st.lists(st.sampled_from([*CALLS]), max_size=8), st.data())
def test_output_may_be_cut_anywhere(outputs, data):
    """Cut at any places, the output has the same calls."""
    whole = b"\x1b\\".join(outputs)  # which ends what a piece has begun
    expected = TerminalCalls().feed(whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    calls = TerminalCalls()
    found = [call for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) for call in calls.feed(whole[a:b])]
    assert found == expected


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\x1b]9;", b"\x1b", b"\\", b"\x07", b"\x1b]99;d=0;"])))
def test_any_bytes_are_taken(pieces):
    """Any output is read, in bounded memory, with texts of bounded length and without control characters."""
    calls = TerminalCalls()
    for piece in pieces:
        for text in calls.feed(piece):
            assert len(text) <= MAX_TEXT and all(ord(character) >= 32 for character in text)
    assert len(calls._string) <= 2 * MAX_STRING_BYTES + 1


def test_a_long_string_is_passed_over():
    """An image is no notification, and its bytes are not kept."""
    calls = TerminalCalls()
    assert calls.feed(b"\x1b]9;") == []
    for _ in range(100):
        assert calls.feed(b"x" * 10_000) == []
    assert len(calls._string) <= 2 * MAX_STRING_BYTES + 1
    assert calls.feed(b"\x07\x07") == [BELL]
