"""Streams arrive whole and in order, whatever the links do."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.stream import (
    MAX_OFFSET,
    AcknowledgedUnsent,
    CannotResume,
    GapRejected,
    Inbox,
    OffsetOutOfRange,
    Outbox,
)

pieces = st.lists(st.binary(max_size=50), max_size=30)


def test_new_bytes_are_the_very_object_that_came():
    """Nothing is copied when nothing is trimmed."""
    data = b"some bytes"
    assert Inbox().receive(0, data) is data


def test_overlap_is_trimmed():
    """Bytes that were seen are not seen twice."""
    inbox = Inbox()
    inbox.receive(0, b"abcdef")
    assert inbox.receive(3, b"defghi") == b"ghi"
    assert inbox.receive(0, b"abc") == b""
    assert inbox.end == 9


def test_a_gap_is_refused_and_changes_nothing():
    """Bytes past the end are not taken."""
    inbox = Inbox(5)
    with pytest.raises(GapRejected) as refused:
        inbox.receive(6, b"x")
    assert (refused.value.expected, refused.value.got) == (5, 6)
    assert inbox.end == 5


def test_offsets_end_somewhere():
    """A stream cannot be longer than an offset can say."""
    inbox = Inbox(MAX_OFFSET - 1)
    with pytest.raises(OffsetOutOfRange):
        inbox.receive(MAX_OFFSET - 1, b"xy")
    assert inbox.receive(MAX_OFFSET - 1, b"x") == b"x"


def test_unsent_bytes_cannot_be_acknowledged():
    """A receiver that claims more than was sent is wrong."""
    outbox = Outbox(100)
    outbox.append(b"abc")
    with pytest.raises(AcknowledgedUnsent):
        outbox.acknowledge(1)
    outbox.next_frame(2)
    outbox.acknowledge(2)
    assert (outbox.start, outbox.sent, outbox.end) == (2, 2, 3)


def test_resuming_needs_a_byte_that_is_held():
    """Neither what was forgotten nor what does not exist yet can be sent again."""
    outbox = Outbox(100)
    outbox.append(b"abcdef")
    outbox.next_frame(4)
    outbox.acknowledge(3)
    for offset in (2, 7):
        with pytest.raises(CannotResume):
            outbox.resume(offset)
    outbox.resume(3)
    assert outbox.next_frame(10) == (3, b"def")


def test_what_a_receiver_has_from_an_earlier_link_may_be_acknowledged_ahead():
    """Sent once is enough; it is not sent again then. To go on from a place is not to acknowledge it."""
    outbox = Outbox(100)
    outbox.append(b"abcdef")
    outbox.next_frame(5)
    outbox.resume(2)
    assert outbox.start == 0
    assert outbox.next_frame(1) == (2, b"c")
    outbox.acknowledge(4)
    assert outbox.next_frame(10) == (4, b"ef")
    outbox.acknowledge(6)
    assert (outbox.start, outbox.end) == (6, 6)


def test_a_full_outbox_has_room_again_after_an_acknowledgement():
    """The source waits while it is full and goes on after."""
    outbox = Outbox(4)
    outbox.append(b"abcd")
    assert outbox.full and outbox.free == 0
    outbox.next_frame(10)
    outbox.acknowledge(1)
    assert not outbox.full and outbox.free == 1


@given(pieces, st.integers(0, 40), st.integers(1, 20))
def test_a_new_stream_begins_with_what_was_not_acknowledged(appended, acknowledged, limit):
    """After `began` of another the kept bytes are the same, from offset 0 on."""
    outbox = Outbox(10_000)
    outbox.began(uuid4())
    for piece in appended:
        outbox.append(piece)
    whole = b"".join(appended)
    while outbox.next_frame(limit):
        pass
    upto = min(acknowledged, len(whole))
    outbox.acknowledge(upto)
    outbox.began(uuid4())
    assert (outbox.start, outbox.sent, outbox.end) == (0, 0, len(whole) - upto)
    sent = b""
    while frame := outbox.next_frame(limit):
        assert frame[0] == len(sent)
        sent += frame[1]
    assert sent == whole[upto:]


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[str, int | bytes]]:
    """What befalls a link: bytes are written, frames sent, delivered late, twice or never, links cut."""
    kinds = st.one_of(
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("send"), st.integers(1, 16)),
        st.tuples(st.just("deliver"), st.integers(0, 5)),
        st.tuples(st.just("repeat"), st.integers(0, 5)),
        st.tuples(st.just("acknowledge"), st.integers(0, 3)),
        st.tuples(st.just("cut"), st.just(0)),
    )
    return draw(st.lists(kinds, max_size=120))


@given(happenings())
def test_what_arrives_is_what_was_written(events):
    """Frames of a link arrive in order, of old links not at all; repeated or cut, the bytes are the same, once."""
    outbox, inbox = Outbox(1_000_000), Inbox()
    written, received = b"", b""
    wire: list[tuple[int, bytes]] = []
    delivered: list[tuple[int, bytes]] = []

    def deliver(frame: tuple[int, bytes]) -> None:
        nonlocal received
        received += inbox.receive(*frame)
        delivered.append(frame)

    for kind, value in events:
        if kind == "write":
            assert isinstance(value, bytes)
            written += value
            outbox.append(value)
        elif kind == "send":
            assert isinstance(value, int)
            frame = outbox.next_frame(value)
            if frame:
                wire.append(frame)
        elif kind == "deliver" and wire:
            deliver(wire.pop(0))
        elif kind == "repeat" and delivered:
            assert isinstance(value, int)
            deliver(delivered[value % len(delivered)])
        elif kind == "acknowledge":
            outbox.acknowledge(min(inbox.end, outbox.sent))
        elif kind == "cut":
            wire.clear()
            outbox.resume(inbox.end)
        assert written.startswith(received)
        assert outbox.end == len(written)
    wire_left = [*wire]
    for frame in wire_left:
        deliver(frame)
    outbox.resume(inbox.end)
    while frame := outbox.next_frame(7):
        deliver(frame)
    assert received == written
