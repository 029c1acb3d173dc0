"""Many streams on one connection between two instances: turns and credit. No I/O and no clock.

The sender may have `WINDOW_BYTES` of each stream under way; the receiver grants more as it takes them. So a stream that
floods, or that is not taken, never fills the connection, and the streams with something to send take turns. Bytes are
not kept here: the sender reads each stream's ring when it is that stream's turn.
"""

from __future__ import annotations

from collections import deque

WINDOW_BYTES = 256 * 1024
"""How many bytes of one stream may be under way."""
MAX_CHANNELS = 20_000
"""How many streams one connection carries."""


class RelayError(Exception):
    """The other instance does not keep to the protocol; the text says how."""


class OutgoingStreams:
    """The sender's channels: whose turn it is, and how many bytes each may send."""

    def __init__(self) -> None:
        self._room: dict[int, int] = {}
        self._turns: deque[int] = deque()
        self._waiting: set[int] = set()
        """The channels in `_turns`."""

    def __len__(self) -> int:
        return len(self._room)

    def open(self, channel: int) -> None:
        """Begin a channel with a whole window. Raises RelayError."""
        if channel in self._room:
            raise RelayError(f"channel {channel} is open")
        if len(self._room) >= MAX_CHANNELS:
            raise RelayError(f"there are more than {MAX_CHANNELS} channels")
        self._room[channel] = WINDOW_BYTES

    def is_open(self, channel: int) -> bool:
        """Whether the channel was opened and not closed."""
        return channel in self._room

    def close(self, channel: int) -> None:
        """End a channel; it gets no turn any more."""
        self._room.pop(channel, None)

    def grant(self, channel: int, count: int) -> None:
        """The receiver has taken bytes. A channel that was just closed is ignored. Raises RelayError."""
        room = self._room.get(channel)
        if room is None:
            return
        if room + count > WINDOW_BYTES:
            raise RelayError(f"channel {channel} is granted more than was sent")
        self._room[channel] = room + count
        self.has_news(channel)

    def has_news(self, channel: int) -> None:
        """The channel has something to send: give it a turn, after those that wait."""
        if channel in self._room and channel not in self._waiting:
            self._waiting.add(channel)
            self._turns.append(channel)

    def next_turn(self) -> int | None:
        """The channel whose turn it is; it has to ask for another with `has_news`. None when nothing waits."""
        while self._turns:
            channel = self._turns.popleft()
            self._waiting.remove(channel)
            if channel in self._room:
                return channel
        return None

    def room(self, channel: int) -> int:
        """How many bytes the channel may send now."""
        return self._room.get(channel, 0)

    def sent(self, channel: int, count: int) -> None:
        """So many bytes were sent, at most the channel's `room`."""
        room = self._room[channel]
        assert 0 < count <= room, "more bytes were sent than the window has room for"
        self._room[channel] = room - count


class IncomingCredit:
    """The receiver's side of one channel: which credit is due. It is granted in large pieces."""

    def __init__(self) -> None:
        self._under_way = WINDOW_BYTES
        """How many bytes the sender may send, or has sent, of which none has come."""
        self._taken = 0

    def take(self, count: int) -> int:
        """Bytes have come and were taken: return the credit to grant now, if any. Raises RelayError."""
        if count > self._under_way:
            raise RelayError("more bytes came than were granted")
        self._under_way -= count
        self._taken += count
        if self._taken < WINDOW_BYTES // 2:
            return 0
        due, self._taken = self._taken, 0
        self._under_way += due
        return due
