"""The ring holds a stream's tail, and every viewer reads it at its own offset."""

from __future__ import annotations

import sys
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onsembl.protocol.ring import BehindRing, Ring, attach

ONE, TWO = UUID(int=1), UUID(int=2)


def test_a_viewer_that_keeps_up_gets_the_very_object():
    """A viewer that keeps up receives the appended chunk without a copy."""
    ring = Ring(100)
    ring.append(b"first")
    chunk = b"second"
    ring.append(chunk)
    assert ring.read(5, 1000) is chunk


def test_a_viewer_that_lags_gets_chunks_joined():
    """A viewer that lags receives small chunks joined to frames of at most the limit."""
    ring = Ring(100)
    for n in range(5):
        ring.append(bytes([65 + n]) * 3)
    assert ring.read(0, 100) == b"AAABBBCCCDDDEEE"
    assert ring.read(4, 7) == b"BBCCCDD"
    assert ring.read(15, 10) == b""


def test_reading_what_has_left_says_where_the_ring_begins():
    """A read before the ring's beginning returns the offset at which the viewer has to continue."""
    ring = Ring(10)
    for _ in range(10):
        ring.append(b"12345")
    assert ring.end == 50
    with pytest.raises(BehindRing) as behind:
        ring.read(0, 10)
    assert behind.value.start == ring.start == 40


def test_a_long_chunk_leaves_in_pieces():
    """A long chunk is dropped in pieces, so the ring holds no more old bytes than with short chunks."""
    ring = Ring(1_000_000)
    ring.append(bytes(500_000))
    ring.append(bytes(700_000))
    assert 1_000_000 <= ring.end - ring.start <= 1_064 * 1024


def test_reading_past_the_end_is_a_mistake_of_the_caller():
    """A read past the end raises an error, because no such byte exists yet."""
    with pytest.raises(ValueError, match="past the end"):
        Ring(10).read(1, 1)


def test_one_chunk_larger_than_the_ring_leaves_its_tail():
    """A chunk that is larger than the ring leaves its newest bytes at their right offsets."""
    ring = Ring(10)
    ring.append(b"old")
    ring.append(b"0123456789abcdef")
    assert (ring.start, ring.end) == (9, 19)
    assert ring.read(9, 100) == b"6789abcdef"


def test_a_million_single_bytes_take_little_memory():
    """Tiny chunks are joined, so that single bytes take at most three times the memory of the ring."""
    ring = Ring(64 * 1024)
    for n in range(300_000):
        ring.append(bytes([n % 256]))
    held = sum(sys.getsizeof(chunk) for chunk in ring._chunks) + sys.getsizeof(ring._offsets)
    assert held < 3 * 64 * 1024
    assert ring.end - ring.start >= 64 * 1024
    assert ring.read(ring.end - 300, 1000) == bytes(n % 256 for n in range(300_000 - 300, 300_000))


@settings(max_examples=200)
@given(
    st.integers(1, 400),
    st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.integers(0, 3), st.integers(1, 90)), max_size=400),
)
def test_viewers_see_what_a_plain_buffer_holds(capacity, steps):
    """Viewers read the bytes of a plain buffer that holds the whole stream, gaps are announced, and memory is
    bounded."""
    ring = Ring(capacity)
    model = b""
    places = [0, 0, 0, 0]
    for data, viewer, limit in steps:
        ring.append(data)
        model += data
        assert ring.end == len(model)
        assert ring.start <= max(0, len(model) - capacity) or ring.start == len(model) - capacity
        place = places[viewer]
        try:
            got = ring.read(place, limit)
        except BehindRing as behind:
            assert place < behind.start <= len(model)
            places[viewer] = behind.start
            continue
        assert got == model[place : place + limit]
        places[viewer] += len(got)
    assert len(b"".join(ring._chunks)) <= 2 * capacity + 32 * 1024 + 60


@pytest.mark.parametrize(
    ("stream", "offset", "mode", "begin"),
    [
        (None, None, "tail", 40),
        (ONE, 45, "exact", 45),
        (ONE, 50, "exact", 50),
        (ONE, 40, "exact", 40),
        (ONE, 39, "gap", 40),
        (ONE, 51, "gap", 40),
        (TWO, 45, "gap", 40),
        (ONE, None, "tail", 40),
    ],
)
def test_attaching(stream, offset, mode, begin):
    """A new viewer gets the tail; a returning viewer gets its exact offset or a gap."""
    ring = Ring(10)
    for _ in range(10):
        ring.append(b"12345")
    answer = attach(ring, ONE, stream, offset)
    assert (answer.mode, answer.offset) == (mode, begin)
