"""Lines of a CLI's output, decoded as JSON objects."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.drivers.json_lines import DroppedLine, JsonLines


def read(data: bytes, size: int = 2**30, limit: int = 1000) -> list:
    """What is decoded from output that arrives in pieces of this size."""
    lines = JsonLines(limit)
    decoded = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    return [*decoded, *lines.end()]


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=4), st.integers(1, 50))
def test_the_pieces_in_which_the_output_comes_make_no_difference(objects, size):
    """A line may be cut at any byte, even within a character."""
    data = b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in objects)
    assert read(data, size, limit=2**20) == objects


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_output_raises_and_its_pieces_make_no_difference(data, size):
    """Any bytes are decoded or returned as text."""
    assert read(data, size) == read(data)


@pytest.mark.parametrize(
    ("line", "decoded"),
    [
        (b'{"a": "\\ud83d half"}', {"a": "\N{REPLACEMENT CHARACTER} half"}),
        (b'{"a": "\\ud83d\\ude42"}', {"a": "🙂"}),
        (b'{"a": "\xff"}', {"a": "\N{REPLACEMENT CHARACTER}"}),
        (b"npm warn something", "npm warn something"),
        (b"[1, 2]", "[1, 2]"),
        (b'{"a": ' * 100_000, "A line was left out: it is nested too deeply."),
        (b'{"cut": "in the mid', '{"cut": "in the mid'),
    ],
)
def test_every_line_counts(line, decoded):
    """Half of a surrogate pair, text of a wrapper, deep nesting and a cut line harm no other line."""
    assert read(line + b'\n{"next": 1}', limit=2**20) == [decoded, {"next": 1}]


def test_a_line_without_an_end_does_not_fill_the_memory():
    """A line over the limit is left out but for its begin and its end, and the next line is read."""
    lines = JsonLines(1000)
    assert [line for _ in range(50) for line in lines.feed(b"x" * 300)] == []
    dropped, after = lines.feed(b'yz\n{"next": 1}\n')
    assert (dropped, after) == ("A line of more than 1,000 bytes was left out.", {"next": 1})
    assert isinstance(dropped, DroppedLine)
    assert (set(dropped.head), dropped.tail[-3:]) == (set(b"x"), b"xyz")
    assert len(dropped.head) == len(dropped.tail) < 1000


def test_a_line_over_the_limit_within_one_piece_is_left_out():
    """As one that comes in pieces."""
    assert read(b"x" * 1001 + b"\n" + b"y" * 1000) == ["A line of more than 1,000 bytes was left out.", "y" * 1000]
