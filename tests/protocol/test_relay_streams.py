"""Streams on one connection: each byte once and in order, in turns, within the window."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.messages import BadMessage
from onsembl.protocol.relay_messages import decode_bytes, encode_bytes
from onsembl.protocol.relay_streams import WINDOW_BYTES, IncomingCredit, OutgoingStreams, RelayError

FRAME = 64 * 1024
CHANNELS = (1, 2, 3)


class Connection:
    """Both ends of a connection, and the bytes under way. A stream's content is its offsets."""

    def __init__(self) -> None:
        self.outgoing = OutgoingStreams()
        self.credit = {channel: IncomingCredit() for channel in CHANNELS}
        self.written = dict.fromkeys(CHANNELS, 0)
        self.sent = dict.fromkeys(CHANNELS, 0)
        self.taken = dict.fromkeys(CHANNELS, 0)
        self.wire: deque[tuple[int, int, int]] = deque()
        self.grants: deque[tuple[int, int]] = deque()
        for channel in CHANNELS:
            self.outgoing.open(channel)

    def write(self, channel: int, count: int) -> None:
        self.written[channel] += count
        self.outgoing.has_news(channel)

    def send(self) -> int | None:
        """One turn, as the pump takes it; return the channel that has sent."""
        while (channel := self.outgoing.next_turn()) is not None:
            count = min(self.written[channel] - self.sent[channel], self.outgoing.room(channel), FRAME)
            if count:
                self.outgoing.sent(channel, count)
                self.wire.append((channel, self.sent[channel], count))
                self.sent[channel] += count
                self.outgoing.has_news(channel)
                return channel
        return None

    def take(self) -> None:
        if not self.wire:
            return
        channel, offset, count = self.wire.popleft()
        assert offset == self.taken[channel], "bytes came out of order"
        self.taken[channel] += count
        if due := self.credit[channel].take(count):
            self.grants.append((channel, due))

    def grant(self) -> None:
        if self.grants:
            self.outgoing.grant(*self.grants.popleft())

    def under_way(self, channel: int) -> int:
        return sum(count for other, _, count in self.wire if other == channel)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(CHANNELS), st.integers(1, 3 * WINDOW_BYTES)),
        st.tuples(st.sampled_from(["send", "take", "grant"])),
    ),
    max_size=120,
)


@given(steps)
def test_each_byte_arrives_once_and_no_stream_has_more_than_its_window_under_way(steps: list[tuple]):
    """In any order of writes, sends, receipts and grants; at the end everything has arrived."""
    connection = Connection()
    for name, *arguments in steps:
        getattr(connection, name)(*arguments)
        for channel in CHANNELS:
            assert connection.under_way(channel) <= WINDOW_BYTES
    while connection.taken != connection.written:
        before = dict(connection.taken)
        connection.send()
        connection.take()
        connection.grant()
        assert before != connection.taken or connection.wire or connection.grants, "a stream is stuck"


@given(st.integers(1, 40))
def test_a_flooding_stream_and_one_that_is_not_taken_hold_up_no_other(rounds: int):
    """Each of the streams with something to send gets every second turn, or all while the other has no credit."""
    connection = Connection()
    connection.write(1, 100 * WINDOW_BYTES)
    while connection.send() is not None:
        pass
    assert connection.sent[1] == WINDOW_BYTES  # nothing is taken: the rest waits in the ring
    for _ in range(rounds):
        connection.write(2, 10)
        assert connection.send() == 2
    while connection.wire:
        connection.take()
    while connection.grants:
        connection.grant()
    connection.write(3, 100 * WINDOW_BYTES)
    turns = [connection.send() for _ in range(6)]
    assert turns == [1, 3, 1, 3, 1, 3]


def test_a_peer_that_breaks_the_rules_is_found_out():
    """Credit that was never used, bytes beyond the credit, and a channel that is open twice."""
    outgoing = OutgoingStreams()
    outgoing.open(1)
    with pytest.raises(RelayError):
        outgoing.open(1)
    with pytest.raises(RelayError):
        outgoing.grant(1, 1)
    outgoing.close(1)
    outgoing.grant(1, 1)  # it was under way when the channel was closed
    outgoing.has_news(1)
    assert outgoing.next_turn() is None
    with pytest.raises(RelayError):
        IncomingCredit().take(WINDOW_BYTES + 1)


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**62), st.binary(min_size=1, max_size=100))
def test_frames_keep_their_bytes(channel: int, offset: int, data: bytes):
    """A frame is decoded to what was encoded; one without bytes, or past the last offset, is rejected."""
    assert decode_bytes(encode_bytes(channel, offset, data)) == (channel, offset, data)
    for wrong in (encode_bytes(channel, offset, b""), encode_bytes(channel, 2**64 - 1, data), data[:11]):
        with pytest.raises(BadMessage):
            decode_bytes(wrong)
