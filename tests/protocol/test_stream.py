"""The receiver of a stream. (The sender is the agent's outbox, whose tests run both together.)"""

from __future__ import annotations

import pytest

from onsembl.protocol.stream import MAX_OFFSET, GapRejected, Inbox, OffsetOutOfRange


def test_new_bytes_are_returned_as_the_same_object():
    """New bytes without an overlap are returned without a copy."""
    data = b"some bytes"
    assert Inbox().receive(0, data) is data


def test_overlap_is_trimmed():
    """Bytes that came before are not returned again."""
    inbox = Inbox()
    inbox.receive(0, b"abcdef")
    assert inbox.receive(3, b"defghi") == b"ghi"
    assert inbox.receive(0, b"abc") == b""
    assert inbox.end == 9


def test_a_gap_is_rejected_and_changes_nothing():
    """Bytes that begin past the end are rejected, and the end stays."""
    inbox = Inbox(5)
    with pytest.raises(GapRejected) as rejected:
        inbox.receive(6, b"x")
    assert (rejected.value.expected, rejected.value.got) == (5, 6)
    assert inbox.end == 5


def test_offsets_have_a_maximum():
    """A stream cannot be longer than the largest offset."""
    inbox = Inbox(MAX_OFFSET - 1)
    with pytest.raises(OffsetOutOfRange):
        inbox.receive(MAX_OFFSET - 1, b"xy")
    assert inbox.receive(MAX_OFFSET - 1, b"x") == b"x"
